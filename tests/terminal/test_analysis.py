from stratalaw.laws.power import Need
from stratalaw.laws.verdicts import SUPPORTED, UNDECIDED, Verdict
from stratalaw.terminal.analysis import show_power


def verdict(claim: str, found: str) -> Verdict:
    return Verdict(claim, f"the text of {claim}", "points", found)


NEED = Need(
    claim="size", text="the text of size", direction="supported", power=0.4, models_now=5, models=9, items=2, draws=3
)


def test_a_claim_that_is_open_is_never_called_decided(capsys):
    verdicts = [verdict("bits", SUPPORTED), verdict("size", UNDECIDED), verdict("differ", UNDECIDED)]
    for needs in ([NEED], []):
        show_power(verdicts, needs)
        printed = capsys.readouterr().out
        assert "no power is known for it: the text of differ" in printed
        assert ("no power is known for it: the text of size" in printed) == (not needs)
        assert "is decided" not in printed


def test_where_nothing_is_open_that_is_said(capsys):
    show_power([verdict("bits", SUPPORTED)], [])
    assert "Every claim that the table can test is decided." in capsys.readouterr().out
