"""What `snn-dt evaluate` prints of an evaluation."""

from snn_dt.cli.evaluate import print_evaluation
from snn_dt.evaluation.rollout import evaluate
from tests.policies import countdown_policy


def test_the_table_holds_the_yardsticks_the_parts_and_the_layers_that_tell_nothing(capsys):
    rows = evaluate(countdown_policy(kind="snn_dt"), [2.0, 1.0], episodes=2, seed=0)
    rows[1]["layer_flags"] = {"blocks.0.attention.lif_in": "saturated"}
    print_evaluation(rows)
    printed = capsys.readouterr().out
    for row in rows:
        for name in ("energy_vs_same_tokens", "energy_vs_dt"):
            assert f"{100 * row[name]:.1f} %" in printed
    assert "target 1: layer blocks.0.attention.lif_in is saturated" in printed
    assert "target 2: layer" not in printed
    for part in ("embedding", "blocks.0.attention", "blocks.1.mlp", "head"):
        assert f"\n  {part} " in printed
