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
        theirs = {
            "cash": stage.partner("wechatpay").get("/sandbox/books").json()["totals"],
            "fund": stage.partner("insurer").get("/sandbox/books").json()["totals"],
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


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    found = []
    for leg, sums in ours["legs"].items():
        if sums["paid_fen"] != sums["refunded_fen"] + sums["held_fen"] + sums["earned_fen"]:
            found.append(f"{leg}: paid is not refunded + held + earned: {sums}")
        if leg in theirs:
            for name in ("paid_fen", "refunded_fen"):
                if sums[name] != theirs[leg][name]:
                    found.append(f"{leg} {name}: ours {sums[name]}, theirs {theirs[leg][name]}")
    return found


def show(stage: Stage, ours: dict[str, Any]) -> None:
    table = Table(title="ledger (yuan)", title_justify="left")
    for name in ("leg", "paid", "refunded", "held", "earned"):
        table.add_column(name, justify="left" if name == "leg" else "right")
    for leg, sums in ours["legs"].items():
        table.add_row(leg, *(yuan(sums[f"{name}_fen"]) for name in ("paid", "refunded", "held", "earned")))
    stage.console.print(table)
