"""The people a new hospital starts with. Nobody of them exists; ages and visits count back from the clock's today."""

from partners.his.book import Book
from partners.kit import Row

USED_BEIJING: Row = {"card_kind": "beijing_insured"}
USED_OTHER: Row = {"card_kind": "other_insured"}
VISIT_CARD: Row = {"card_kind": "uninsured"}

PEOPLE: tuple[Row, ...] = (
    {
        "name": "林复安",
        "age": 58,
        "sex": "female",
        "cards": [USED_BEIJING, VISIT_CARD],
        "visits": [{"days_ago": 30, "department": "脾胃病科", "diagnosis": "慢性胃炎"}],
    },
    {
        "name": "石外宁",
        "age": 44,
        "sex": "male",
        "cards": [USED_OTHER],
        "visits": [{"days_ago": 75, "department": "心血管科", "diagnosis": "高血压"}],
    },
    {
        "name": "田自立",
        "age": 27,
        "sex": "male",
        "cards": [VISIT_CARD],
        "visits": [{"days_ago": 12, "department": "皮肤科", "diagnosis": "湿疹"}],
    },
    # §1: too young
    {
        "name": "童五岁",
        "age": 5,
        "sex": "female",
        "cards": [USED_BEIJING],
        "visits": [{"days_ago": 20, "department": "儿科"}],
    },
    # §26: a guardian's consent is needed
    {
        "name": "童十二",
        "age": 12,
        "sex": "male",
        "cards": [USED_BEIJING],
        "visits": [{"days_ago": 40, "department": "儿科"}],
    },
    # §2: the last visit is seven months old
    {
        "name": "久未来",
        "age": 63,
        "sex": "male",
        "cards": [USED_BEIJING],
        "visits": [{"days_ago": 214, "department": "肺病科"}],
    },
    # §2: never here as an outpatient; §8: a card never used here
    {"name": "新初来", "age": 35, "sex": "female", "cards": [{**USED_BEIJING, "used": False}], "visits": []},
)

# Packs of what bears the hospital's drug codes: W… western and patent, H… herbal (grams); the 900s are special drugs,
# kept for the wards and never sent out.
STOCK = (
    dict.fromkeys((f"W{number:03d}" for number in range(1, 900)), 400)
    | dict.fromkeys((f"H{number:03d}" for number in range(1, 900)), 50_000)
    | dict.fromkeys((f"{kind}{number}" for kind in "WH" for number in range(901, 1000)), 20)
)


def seed(book: Book) -> None:
    """Once, in one transaction: a start that was killed halfway seeds again from nothing."""
    with book.books.write():
        if not book.books.row("select 1 from person"):
            for person in PEOPLE:
                book.add_person(person)
            for drug_code, on_hand in STOCK.items():
                book.set_stock(drug_code, on_hand)
