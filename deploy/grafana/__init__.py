"""The Grafana dashboard as code.

rows.py        what is shown: titles, queries, units
dashboards.py  builds dashboards/inkling.json from it: `python -m deploy.grafana.dashboards`
provisioning/  makes Grafana load it
"""
