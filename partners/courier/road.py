"""The way of a parcel and its price: pure."""

# A refused parcel goes back to the sender; "delivered" and "returned" are the ends.
NEXT: dict[str, tuple[str, ...]] = {
    "accepted": ("collected",),
    "collected": ("in_transit",),
    "in_transit": ("out_for_delivery",),
    "out_for_delivery": ("delivered", "refused"),
    "refused": ("returned",),
    "delivered": (),
    "returned": (),
}
STATUSES = tuple(NEXT)


def steps(status: str, to: str | None) -> list[str]:
    """The statuses a parcel passes from `status` up to `to`, or just its usual next one. Empty when there is no way."""
    if to is None:
        return list(NEXT[status][:1])
    for following in NEXT[status]:
        if following == to:
            return [to]
        if rest := steps(following, to):
            return [following, *rest]
    return []


def price_fen(address: str, weight_g: int) -> int:
    """The courier's own tariff (not the hospital's, §21): first kilogram, then each further one begun; fen."""
    same_city = address.strip().startswith("北京")
    first, further = (1200, 200) if same_city else (1800, 800)
    return first + further * max(0, -(-weight_g // 1000) - 1)
