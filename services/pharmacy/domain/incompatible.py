"""十八反 and 十九畏 (§25): herbal pieces that do not go together, by every name they may have in a catalogue.

Source: 儒门事亲 (十八反歌) and 医经小学 (十九畏歌); the «不宜与…同用» of 中华人民共和国药典 names the same families.
"""

from __future__ import annotations

# A family is one word of the verse. Its members: synonyms, parts, and processed forms, each as a whole name.
FAMILIES: dict[str, frozenset[str]] = {
    name: frozenset(members.split())
    for name, members in {
        "甘草": "甘草 生甘草 炙甘草 蜜甘草 甘草梢 粉甘草",
        "甘遂": "甘遂 生甘遂 醋甘遂",
        "大戟": "大戟 京大戟 醋京大戟 生京大戟 红大戟 醋红大戟 红芽大戟",
        "芫花": "芫花 醋芫花 生芫花",
        "海藻": "海藻 羊栖菜 海蒿子",
        "乌头": "乌头 川乌 生川乌 制川乌 川乌头 草乌 生草乌 制草乌 草乌头 草乌叶 附子 生附子 制附子 黑顺片 白附片 "
        "淡附片 炮附片 炮附子 熟附子 盐附子 黄附片 天雄 雪上一枝蒿",
        "贝母": "贝母 川贝母 川贝 浙贝母 浙贝 象贝母 平贝母 伊贝母 湖北贝母 松贝 青贝 炉贝 大贝",
        "瓜蒌": "瓜蒌 全瓜蒌 栝楼 瓜蒌皮 瓜蒌壳 炒瓜蒌皮 瓜蒌子 瓜蒌仁 炒瓜蒌子 瓜蒌霜 天花粉 栝楼根 瓜蒌根",
        "半夏": "半夏 生半夏 法半夏 姜半夏 清半夏 制半夏 半夏曲 京半夏",
        "白蔹": "白蔹",
        "白及": "白及 白芨",
        "藜芦": "藜芦",
        "人参": "人参 生晒参 白参 红参 野山参 山参 人参须 糖参 高丽参 朝鲜参 林下参 西洋参 花旗参 人参叶",
        "沙参": "沙参 北沙参 南沙参",
        "丹参": "丹参 紫丹参 酒丹参",
        "玄参": "玄参 元参 黑玄参",
        "苦参": "苦参",
        "党参": "党参 潞党参 米炒党参 炙党参 明党参",
        "细辛": "细辛 北细辛 辽细辛 华细辛",
        "芍药": "芍药 白芍 炒白芍 酒白芍 生白芍 杭白芍 赤芍 炒赤芍 酒赤芍",
        "硫黄": "硫黄 硫磺 石硫黄 制硫黄",
        "朴硝": "朴硝 芒硝 皮硝 玄明粉 元明粉 马牙硝 风化硝",
        "水银": "水银 轻粉 红粉 升药",
        "砒霜": "砒霜 砒石 信石 红砒 白砒",
        "狼毒": "狼毒 生狼毒 醋狼毒 制狼毒",
        "密陀僧": "密陀僧 陀僧",
        "巴豆": "巴豆 生巴豆 巴豆霜 巴霜",
        "牵牛": "牵牛 牵牛子 炒牵牛子 黑丑 白丑 二丑 黑白丑",
        "丁香": "丁香 公丁香 母丁香 丁香叶",
        "郁金": "郁金 川郁金 广郁金 黄郁金 绿丝郁金 醋郁金",
        "牙硝": "牙硝 芒硝 马牙硝 朴硝 玄明粉 元明粉",
        "三棱": "三棱 荆三棱 京三棱 醋三棱",
        "川乌草乌": "川乌 生川乌 制川乌 草乌 生草乌 制草乌 草乌叶",
        "犀角": "犀角 水牛角 水牛角浓缩粉",
        "五灵脂": "五灵脂 醋五灵脂 炒五灵脂 灵脂",
        "肉桂": "肉桂 官桂 桂心 企边桂 紫油桂",
        "石脂": "石脂 赤石脂 煅赤石脂 白石脂",
    }.items()
}

EIGHTEEN = "十八反"
NINETEEN = "十九畏"
PAIRS: tuple[tuple[str, str, str], ...] = (
    *((EIGHTEEN, "甘草", other) for other in ("甘遂", "大戟", "芫花", "海藻")),
    *((EIGHTEEN, "乌头", other) for other in ("贝母", "瓜蒌", "半夏", "白蔹", "白及")),
    *((EIGHTEEN, "藜芦", other) for other in ("人参", "沙参", "丹参", "玄参", "苦参", "党参", "细辛", "芍药")),
    (NINETEEN, "硫黄", "朴硝"),
    (NINETEEN, "水银", "砒霜"),
    (NINETEEN, "狼毒", "密陀僧"),
    (NINETEEN, "巴豆", "牵牛"),
    (NINETEEN, "丁香", "郁金"),
    (NINETEEN, "牙硝", "三棱"),
    (NINETEEN, "川乌草乌", "犀角"),
    (NINETEEN, "人参", "五灵脂"),
    (NINETEEN, "肉桂", "石脂"),
)


def clash(one: str, other: str) -> tuple[str, str, str] | None:
    """The pair of families that forbids these two names together, in either order; None when they get along."""
    for verse, left, right in PAIRS:
        here, there = FAMILIES[left], FAMILIES[right]
        if (one in here and other in there) or (other in here and one in there):
            return verse, left, right
    return None
