"""Figures of predictions, each with an interval by drawing whole sessions: pure functions of arrays.

draws    sessions drawn with replacement, as weights of events
binary   probabilities of one thing: ROC AUC, PR AUC, log-loss, Brier, calibration error and its floor
decision what a threshold gives: precision, recall, F1, and how early buyers are recognised
ranking  recall@k and MRR@k of lists, mean losses
"""
