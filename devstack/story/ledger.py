"""Every fen is accounted for: our ledger beside the provider's and the insurer's books (§16)."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from devstack.story.cast import log_in_as
from devstack.story.stage import Stage, StoryFailed, yuan


def settle_the_books(stage: Stage) -> None:
    """Print paid = held + earned + refunded by leg, and compare with the partners. Raises StoryFailed on one fen."""
    cashier = log_in_as(stage, "cashier")

    def books() -> Any:
        ours = cashier.get("/api/payment/ledger").json()
        provider = stage.partner("wechatpay").get("/sandbox/books").json()["totals"]
        insurer = stage.partner("insurer").get("/sandbox/books").json()["totals"]
        theirs = {
            "cash": (provider["paid_fen"], provider["refunded_fen"]),
            "fund": (insurer["claimed_fund_fen"], insurer["reversed_fund_fen"]),
            "account": (insurer["claimed_account_fen"], insurer["reversed_account_fen"]),
        }
        return ours, theirs

    def agree() -> Any:
        ours, theirs = books()
        return not differences(ours, theirs) and (ours, theirs)

    try:
        ours, theirs = stage.until("the books agree", agree)
    except StoryFailed:
        ours, theirs = books()
        show(stage, ours)
        raise StoryFailed("the books differ: " + "; ".join(differences(ours, theirs))) from None
    show(stage, ours)
    stage.tell("check", "paid = refunded + held + earned, and the provider's and the insurer's sums are the same", "✔")


def differences(ours: dict[str, Any], theirs: dict[str, tuple[int, int]]) -> list[str]:
    """`theirs`: what each leg's owner was paid and gave back, in fen."""
    found = []
    for leg, sums in ours["by_leg"].items():
        if sums["paid_fen"] != sums["refunded_fen"] + sums["held_fen"] + sums["earned_fen"]:
            found.append(f"{leg}: paid is not refunded + held + earned: {sums}")
        if (sums["paid_fen"], sums["refunded_fen"]) != theirs[leg]:
            found.append(f"{leg}: ours {sums['paid_fen']} paid, {sums['refunded_fen']} refunded; theirs {theirs[leg]}")
    return found


def show(stage: Stage, ours: dict[str, Any]) -> None:
    table = Table(title="ledger (yuan)", title_justify="left")
    for name in ("leg", "paid", "refunded", "held", "earned"):
        table.add_column(name, justify="left" if name == "leg" else "right")
    for leg, sums in ours["by_leg"].items():
        table.add_row(leg, *(yuan(sums[f"{name}_fen"]) for name in ("paid", "refunded", "held", "earned")))
    stage.console.print(table)
