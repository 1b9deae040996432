"""Resident ID numbers (GB 11643-1999) of people who do not exist, and everything else a synthetic person needs."""

from datetime import date, timedelta

# 110100 is the city of Beijing as a whole: numbers are given out by districts, so nobody alive has one of these.
AREA = "110100"
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"
_SURNAMES = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕施张孔曹严华金魏陶姜"
_GIVEN = (
    "安和",
    "春明",
    "秋实",
    "冬青",
    "立夏",
    "小满",
    "谷雨",
    "白露",
    "清明",
    "惊蛰",
    "寒露",
    "霜降",
    "初晴",
    "望舒",
)


def check_digit(first17: str) -> str:
    return _CHECKS[sum(int(digit) * weight for digit, weight in zip(first17, _WEIGHTS, strict=True)) % 11]


def id_number(birth_date: date, sex: str, order: int) -> str:
    """The `order`th (0–499) number of that day and sex; the 17th digit is odd for men."""
    first17 = f"{AREA}{birth_date:%Y%m%d}{order * 2 + (sex == 'male'):03d}"
    return first17 + check_digit(first17)


def read_id_number(number: str) -> tuple[date, str]:
    """-> (birth date, "male" | "female"). Raises ValueError when the number cannot be one."""
    if (
        len(number) != 18
        or not (number[:17].isascii() and number[:17].isdecimal())
        or check_digit(number[:17]) != number[17]
    ):
        raise ValueError("not a resident ID number")
    return date.fromisoformat(number[6:14]), "male" if int(number[16]) % 2 else "female"


def name(n: int) -> str:
    return _SURNAMES[n % len(_SURNAMES)] + _GIVEN[n // len(_SURNAMES) % len(_GIVEN)]


def phone(n: int) -> str:
    """199 0000 …: a range kept for examples in this project."""
    return f"1990000{n % 10_000:04d}"


def born_for_age(age: int, today: date) -> date:
    """A birth date that makes somebody `age` full years old today, and for the next eleven months."""
    return date(today.year - age, today.month, min(today.day, 28)) - timedelta(days=21)
