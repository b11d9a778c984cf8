"""Session-kNN with weights for recent events (VS-kNN: Ludewig, Jannach 2018, "Evaluation of session-based recommendation").

The next item comes from what similar sessions looked at; the purchase from how many of them bought.
"""

import numpy as np
from scipy import sparse

from training.baselines.corrected import LEARNED_SHARE
from training.baselines.heads import LateCorrection, in_chunks, most_popular, prior, top_items
from training.forecast import LISTED, Forecast
from training.history import Ints
from training.labels import UNKNOWN
from training.metrics.draws import Doubles
from training.session_log import SessionLog

_CHUNK = 1024


class SessionKNN:
    """The `NEIGHBOURS` most similar training sessions, of the `CANDIDATES` most recent ones that share an item."""

    NEIGHBOURS = 100
    CANDIDATES = 1000
    #: Items further back in the session do not count.
    LAST = 10
    #: Where the item at hand follows itself less often than this, it is not listed.
    _REPEATED = 0.01
    #: Neighbours that the overall rate is worth when theirs is smoothed towards it.
    _PRIOR_NEIGHBOURS = 20.0

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        earlier, later = log.split(LEARNED_SHARE)
        self._learn(earlier)
        self._correction = LateCorrection(self._bought(later), later, prior(log.purchase))
        self._learn(log)
        self._popular = most_popular(log.item, log.items)
        known = (log.next_item != UNKNOWN) & (log.item != UNKNOWN)
        self._repeats = bool((log.next_item == log.item)[known].mean() >= self._REPEATED) if known.any() else False

    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        similar = self._similar(log)
        bought = self._correction(self._bought_by(similar))

        def lists(part: slice) -> Ints:
            return top_items(self._scores(log, similar[part], part), self._popular)

        return Forecast(bought, next_items=in_chunks(len(log), _CHUNK, lists))

    def _learn(self, log: SessionLog) -> None:
        held = log.item != UNKNOWN
        self._shape = (log.sessions, log.items)
        counts = sparse.csr_matrix((np.ones(held.sum()), (log.session[held], log.item[held])), self._shape)
        self._holds = (counts > 0).astype(np.float64)  # [S, items]
        length = np.asarray(self._holds.sum(axis=1)).reshape(-1)
        self._weighted = sparse.diags(1 / np.sqrt(np.maximum(length, 1))) @ self._holds
        # Rare items say more about what a visitor is after than popular ones.
        frequency = np.asarray(self._holds.sum(axis=0)).reshape(-1)
        self._rarity = np.log(log.sessions / np.maximum(frequency, 1)) if log.sessions else np.zeros(log.items)
        # Whether a session bought: known of its first event, as that lies ahead of any purchase but one that opens the session.
        self._outcome = log.purchase[log.start[:-1]].astype(np.float64)
        self._overall = prior(log.purchase)

    def _similar(self, log: SessionLog) -> sparse.csr_matrix:
        """[N, S]: similarities of each event's session so far to its neighbours."""
        parts = []
        recent = self._last_items(log)
        for begin in range(0, len(log), _CHUNK):
            similar = (recent[begin : begin + _CHUNK] @ self._weighted.T).tocsr()
            parts.append(self._nearest(similar))
        return sparse.vstack(parts).tocsr() if parts else sparse.csr_matrix((0, self._shape[0]))

    def _last_items(self, log: SessionLog) -> sparse.csr_matrix:
        """[N, items]: the weight of each of the session's last items, falling from 1 for the newest."""
        rows, columns, weights = [], [], []
        position, seen = log.position, (log.item != UNKNOWN) & (log.item < self._shape[1])
        for back in range(self.LAST):
            at = np.flatnonzero(position > back)
            at = at[seen[at - back]]
            rows.append(at)
            columns.append(log.item[at - back])
            weights.append(np.full(len(at), 1 - back / self.LAST))
        index = np.concatenate(rows), np.concatenate(columns)
        # An item that was looked at twice counts by its latest time: the greatest weight.
        order = np.lexsort((-np.concatenate(weights), index[1], index[0]))
        row, column, weight = index[0][order], index[1][order], np.concatenate(weights)[order]
        first = np.ones(len(row), bool)
        first[1:] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
        return sparse.csr_matrix((weight[first], (row[first], column[first])), (len(log), self._shape[1]))

    def _nearest(self, similar: sparse.csr_matrix) -> sparse.csr_matrix:
        """The same with nothing but each row's neighbours."""
        indices, data, ends = [], [], [0]
        for row in range(similar.shape[0]):
            begin, end = similar.indptr[row], similar.indptr[row + 1]
            session, value = similar.indices[begin:end], similar.data[begin:end]
            if len(session) > self.CANDIDATES:  # sessions are numbered by their start: the newest have the highest numbers
                newest = np.argpartition(session, len(session) - self.CANDIDATES)[-self.CANDIDATES :]
                session, value = session[newest], value[newest]
            if len(session) > self.NEIGHBOURS:
                # Of equally similar ones the newest.
                best = np.lexsort((-session, -value))[: self.NEIGHBOURS]
                session, value = session[best], value[best]
            order = np.argsort(session)
            indices.append(session[order])
            data.append(value[order])
            ends.append(ends[-1] + len(session))
        shape = (similar.shape[0], self._shape[0])
        if not indices:
            return sparse.csr_matrix(shape)
        return sparse.csr_matrix((np.concatenate(data), np.concatenate(indices), np.array(ends)), shape)

    def _scores(self, log: SessionLog, similar: sparse.csr_matrix, part: slice) -> sparse.csr_matrix:
        """[n, items]: similarities of the neighbours that hold the item, times how rare it is."""
        scores = (similar @ self._holds).tocsr().multiply(1.0 + 0.2 * self._rarity).tocsr()
        if not self._repeats and scores.nnz:
            row = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
            scores.data[scores.indices == log.item[part][row]] = 0.0
            scores.eliminate_zeros()
        return scores

    def _bought(self, log: SessionLog) -> Doubles:
        return self._bought_by(self._similar(log))

    def _bought_by(self, similar: sparse.csr_matrix) -> Doubles:
        """[N]: the share of the neighbours that bought, by similarity, smoothed."""
        known = (self._outcome != UNKNOWN).astype(np.float64)
        bought = similar @ np.where(known > 0, self._outcome, 0.0)
        weight = similar @ known
        scale = weight / np.maximum(np.asarray((similar > 0).astype(np.float64) @ known), 1.0)  # mean similarity
        doubt = self._PRIOR_NEIGHBOURS * np.maximum(scale, 1e-9)
        return np.asarray((bought + doubt * self._overall) / (weight + doubt))


assert LISTED <= SessionKNN.NEIGHBOURS
