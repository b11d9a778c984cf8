"""The table of simulated shops in docs/learning.md."""

from tests.benchmarks.learning.table import section, table

_ROW = {
    "expected_share": 0.92, "ceiling": 0.95,
    "share": 0.9, "log_loss": 0.30, "constant": 0.33, "bayes": 0.29, "roc_auc": 0.7, "bayes_auc": 0.75, "first_auc": 0.6,
    "bayes_first_auc": 0.61, "ece": 0.01, "floor": 0.008, "level": 0.001, "seconds": 60.0,
}  # fmt: skip


def test_a_shop_has_a_row_with_its_seeds_spread() -> None:
    """Shops without results are left out, and each machine is named once."""
    made = {"machine": ["2026-01-05", "revision abc"], "rows": [_ROW, {**_ROW, "share": 0.8, "ece": 0.02}]}
    results = {"small": made, "electronics": made}
    columns, rows = table(results)
    assert [row[0] for row in rows] == ["electronics", "small"]
    cells = dict(zip(columns, rows[0], strict=False))
    assert cells["seeds"] == "2"
    assert cells["expected share of skill"] == "0.920 (0.920 to 0.920)"
    assert cells["share on these labels"] == "0.850 (0.800 to 0.900)"
    assert cells["log-loss less constant's"] == "-0.03000 (-0.03000 to -0.03000)"
    assert rows[0][columns.index("log-loss less constant's") + 1] == "-0.04000"
    assert cells["ECE less floor"] == "+0.0070 (+0.0020 to +0.0120)"
    blind = {"machine": made["machine"], "rows": [{**_ROW, "bayes": 0.33}]}
    assert table({"few-blind": blind})[1][0][3:6] == ["", "", ""], "there is nothing to have a share of"
    told = section(results)
    assert told.count("2026-01-05, revision abc.") == 1
    assert "| small | 4,000 | 2 |" in told
