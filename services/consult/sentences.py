"""What the system says on the message page. The log keeps a code; the words may be improved for old messages too."""

from __future__ import annotations

NOTICES: dict[str, tuple[str, str]] = {
    "accepted": ("医生已接诊,现在可以开始交流。", "The doctor has accepted your visit; you can talk now."),
    "declined": (
        "医生判断您的情况不适合在线复诊,请尽快到实体医院就诊。本次挂号将自动退号,费用原路退回。",
        "The doctor judges your condition unsuitable for online care: go to a hospital soon. The fee is refunded.",
    ),
    "missed": (
        "就诊日已结束,医生未能接诊。本次挂号将自动退号,费用原路退回。",
        "The day ended before the doctor could accept. The visit is withdrawn and the fee refunded.",
    ),
    "silence_warned": (
        "医生接诊后尚未回复,系统已提醒医生。",
        "The doctor has accepted but not answered yet; we have reminded the doctor.",
    ),
    "abandoned": (
        "医生接诊后长时间未回复。本次挂号将自动退号,费用原路退回。",
        "The doctor accepted but never answered. The visit is withdrawn and the fee refunded.",
    ),
    "finished": (
        "医生已结束本次接诊。诊疗记录可在本页查看。",
        "The doctor has finished this visit. You find the record on this page.",
    ),
    "cancelled": ("本次挂号已退号。", "This visit has been withdrawn."),
}
CALLS: dict[str, tuple[str, str]] = {
    "voice": ("医生邀请您进行语音通话。", "The doctor invites you to a voice call."),
    "video": ("医生邀请您进行视频通话。", "The doctor invites you to a video call."),
    "ended": ("通话已结束,问诊仍在继续。", "The call has ended; the visit goes on."),
}
PRESCRIPTION = ("医生为您开具了处方,请查看处方单。", "A prescription has been issued for you; see the sheet.")
