"""What patients are told, word for word, in Chinese and in English: the one place to change a sentence.

A message lies open on a screen that others see, and passes through a provider: no name, no number of a document, no
word about health, no drug (§31). So a prescription is "an order" here, and its template is named so too. Values are
instants in Asia/Shanghai and yuan, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from eventkit.clock import SHANGHAI, day_end, shanghai_day
from services.registration.policy import QuietHours, quiet_on

LANGUAGES = ("zh", "en")
CHANNELS = ("sms", "wechat")


@dataclass(frozen=True, slots=True)
class Template:
    """`at_once`: also in quiet hours."""

    zh: str
    en: str
    at_once: bool = False


TEMPLATES: Mapping[str, Template] = {
    "login_code": Template(
        "验证码{code},{minutes}分钟内有效。请勿告诉他人。",
        "Your code is {code}, good for {minutes} minutes. Tell it to nobody.",
        at_once=True,
    ),
    # --- waiting for a full session (§9, §29)
    "slot_offered": Template(
        "您候补的{day} {time}号源已为您保留至{until},请在此之前预约,过时将转给下一位。",
        "The time you waited for, {day} {time}, is kept for you until {until}. Book it by then, or the next gets it.",
    ),
    "waiting_ended": Template(
        "您候补的{day}号源已全部取消,候补随之结束。请改约其他时间。",
        "The session of {day} that you waited for was cancelled. Please choose another time.",
    ),
    # --- a visit (§10, §11, §16, §18, §19, §27, §29)
    "visit_booked": Template(
        "预约成功:{day} {time}。请于当天打开消息页等候,您可以提前留言。",
        "You are booked for {day} {time}. Open the message page on that day; you may write before.",
    ),
    "visit_lapsed.unpaid": Template(
        "您{day} {time}的预约未在规定时间内支付,号源已释放。如仍需要,请重新预约。",
        "Your booking for {day} {time} was not paid in time and is free again. Book again if you still need it.",
    ),
    "visit_lapsed.ineligible": Template(
        "您{day} {time}的预约不再符合线上预约条件,未能完成。已支付的费用将原路退回,详情请在“我的预约”中查看。",
        "Your booking for {day} {time} no longer meets the conditions for booking online. Whatever was paid goes back "
        "the way it came; see “My visits”.",
    ),
    "doctor_accepted": Template(
        "您{day} {time}的预约已开始,对方正在等您,请打开消息页。",
        "Your visit of {day} {time} has begun. You are expected on the message page.",
        at_once=True,
    ),
    "visit_withdrawn.missed": Template(
        "很抱歉,您{day} {time}的预约当天未能开始,已自动取消。费用将原路退回,您无需任何操作。",
        "We are sorry: your visit of {day} {time} did not take place and was cancelled. The fee goes back the way it "
        "came; you need to do nothing.",
    ),
    "visit_withdrawn.declined": Template(
        "您{day} {time}的预约不适合在线上进行,已取消,费用将原路退回。请到医院现场就诊。",
        "Your visit of {day} {time} is not suited to being held online and was cancelled; the fee goes back the way it "
        "came. Please come to the hospital in person.",
    ),
    "visit_withdrawn.silent": Template(
        "很抱歉,您{day} {time}的预约开始后一直没有得到回复,已自动取消。费用将原路退回,您无需任何操作。",
        "We are sorry: nobody answered you in your visit of {day} {time}, so it was cancelled. The fee goes back the "
        "way it came; you need to do nothing.",
    ),
    "visit_withdrawn.patient": Template(
        "您已取消{day} {time}的预约。已支付的费用将原路退回。",
        "You cancelled your booking for {day} {time}. Whatever was paid goes back the way it came.",
    ),
    "visit_withdrawn.session_cancelled": Template(
        "很抱歉,{day}的号源已全部取消,您{time}的预约随之取消。已支付的费用将原路退回,请改约其他时间。",
        "We are sorry: the session of {day} was cancelled, and with it your booking for {time}. Whatever was paid goes "
        "back the way it came. Please choose another time.",
    ),
    "visit_withdrawn.ineligible": Template(
        "您{day} {time}的预约不再符合线上预约条件,已取消。费用将原路退回,详情请在“我的预约”中查看。",
        "Your visit of {day} {time} no longer meets the conditions for being held online and was cancelled. The fee "
        "goes back the way it came; see “My visits”.",
    ),
    "refund_succeeded": Template(
        "退款{amount}元已原路退回,到账时间以支付渠道为准。",
        "{amount} yuan went back the way they came. When they arrive is up to the bank.",
    ),
    # --- a prescription, which is an order here (§15, §20–§23)
    "order_opened": Template(
        "您有一笔新订单,请于{until}前在线支付,或到门诊楼一层服务台办理(可使用医保),逾期作废。",
        "You have a new order. Pay it online before {until}, or at the service desk on the first floor of the "
        "outpatient building, where insurance applies. After that it is void.",
    ),
    "order_expiring": Template(
        "您有一笔订单将于{until}到期,尚未支付。请在线支付或到门诊楼一层服务台办理,逾期作废。",
        "An order of yours is not paid yet and ends at {until}. Pay it online or at the service desk on the first "
        "floor of the outpatient building. After that it is void.",
    ),
    "order_expired": Template(
        "您的一笔订单逾期未支付,已作废。如仍需要,请重新预约。",
        "An order of yours was not paid in time and is void. Book again if you still need it.",
    ),
    # --- its parcel (§21)
    "parcel_handed_over": Template(
        "您的包裹已交给快递。快递费由快递员收取,详情请在“我的订单”中查看。",
        "Your parcel is with the courier, who collects the courier's own fee. See “My orders”.",
    ),
    "parcel_out": Template(
        "您的包裹正在派送,请保持电话畅通。",
        "Your parcel is out for delivery today. Please keep your phone at hand.",
    ),
    "parcel_delivered": Template("您的包裹已签收。", "Your parcel was delivered."),
    "parcel_returned": Template(
        "您的包裹未能送达,已退回。请在“我的订单”中选择再次派送或到院自取。",
        "Your parcel could not be delivered and came back. Choose in “My orders” whether it is sent again or fetched.",
    ),
}


def wording(template: str, language: str, params: Mapping[str, str]) -> str:
    """The finished sentence. Raises KeyError for a template, or a value of it, that does not exist."""
    found = TEMPLATES[template]
    return (found.en if language == "en" else found.zh).format_map(params)


def quiet_until(now: datetime, hours: QuietHours | None = None) -> datetime | None:
    """When the quiet hours end that `now` falls into, in UTC; None where nobody is woken."""
    local = now.astimezone(SHANGHAI)
    hours = hours or quiet_on(local.date())
    if hours.ends <= local.time() < hours.begins:
        return None
    day = local.date() + timedelta(days=1) if local.time() >= hours.begins else local.date()
    return datetime.combine(day, hours.ends, SHANGHAI).astimezone(UTC)


def at_once(template: str, now: datetime, ahead: datetime | None) -> bool:
    """Told also in quiet hours: what says so, and what would come too late. `ahead` is the instant that the message is
    about: a visit's slot, the end of an offer.

    A visit that is withdrawn on its own day is told at once, and so it is for a little while after: at midnight, when a
    missed visit is withdrawn (§18), its patient may still be waiting.
    """
    if TEMPLATES[template].at_once:
        return True
    if ahead is None:
        return False
    if template.startswith("visit_withdrawn.") and shanghai_day(ahead) <= shanghai_day(now):
        return now < day_end(shanghai_day(ahead)) + quiet_on(shanghai_day(now)).after_the_day
    morning = quiet_until(now)
    return morning is not None and now <= ahead < morning
