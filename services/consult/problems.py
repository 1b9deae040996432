"""What this service refuses, as a patient or a doctor reads it."""

from __future__ import annotations

from eventkit.problems import Problem

PROBLEMS = (
    Problem(
        "consult_over", 409,
        "本次问诊已结束,不能再发送消息或操作。", "This visit has ended; nothing more can be written or done in it.",
        "消息记录仍可查看;如需继续就诊,请重新挂号。", "You can still read the messages. Book a new visit to go on.",
    ),
    Problem(
        "not_accepted", 409,
        "医生尚未接诊。", "The doctor has not accepted this visit yet.",
        "请先接诊。", "Accept the visit first.",
    ),
    Problem(
        "already_accepted", 409,
        "您已接诊。", "You have accepted this visit already.",
        "请直接进入问诊。", "Go on to the conversation.",
    ),
    Problem(
        "not_its_day", 409,
        "只能在就诊当天({day})接诊。", "A visit can only be accepted on its day ({day}).",
        "请在就诊当天再接诊。", "Accept it on that day.",
    ),
    Problem(
        "not_eligible", 422,
        "该患者目前不符合在线复诊条件,不能接诊。",
        "This patient does not meet the conditions for an online follow-up now.",
        "未通过的条件已列出;本次挂号将自动退号,患者获全额退款,您也可以先行退回。",
        "What failed is listed; the visit is withdrawn with a full refund, and you may decline it at once.",
    ),
    Problem(
        "record_incomplete", 422,
        "病历未填写完整。", "The record is incomplete.",
        "请填写主诉、现病史、诊断及其ICD-10编码、处理意见。",
        "Fill in complaint, present illness, diagnosis with its ICD-10 code, and advice.",
    ),
    Problem(
        "diagnosis_code", 422,
        "诊断编码不是ICD-10格式。", "The code of the diagnosis has not the form of ICD-10.",
        "请使用如K29.5或I10.x00x002的编码。", "Use a code such as K29.5 or I10.x00x002.",
    ),
    Problem(
        "syndrome_name", 422,
        "中医证候应为2至30个汉字的名称。", "A syndrome of Chinese medicine is a Chinese name of 2 to 30 characters.",
        "请填写如“肝胃不和证”的证候名称。", "Write a name such as 肝胃不和证.",
    ),
    Problem(
        "text_length", 422,
        "消息不能为空,且不能超过{most}个字。", "A message must not be empty, nor longer than {most} characters.",
        "请修改后再发送。", "Change it and send it again.",
    ),
    Problem(
        "conversation_full", 409,
        "本次问诊的消息已达上限({most}条)。", "This conversation has reached its limit of {most} messages.",
        "如仍需帮助,请与医生约定重新挂号。", "If you need more help, book a new visit.",
    ),
    Problem(
        "media_unreadable", 422,
        "无法识别这个文件。", "This file cannot be read.",
        "图片请用JPEG、PNG或WebP,语音请用OGG(Opus)、M4A、WAV或AMR。",
        "Send pictures as JPEG, PNG or WebP, voice as Ogg (Opus), M4A, WAV or AMR.",
    ),
    Problem(
        "voice_length", 422,
        "语音不能为空,且不能超过{most}秒。", "A voice clip must not be empty, nor longer than {most} seconds.",
        "请重新录制。", "Record it again.",
    ),
    Problem(
        "media_full", 409,
        "本次问诊上传的文件已达上限({most}个)。", "This visit has reached its limit of {most} uploads.",
        "请用文字说明。", "Describe it in words.",
    ),
    Problem(
        "media_unknown", 422,
        "找不到这张图片或这段语音。", "There is no such picture or voice clip of yours in this visit.",
        "请重新上传。", "Upload it again.",
    ),
    Problem(
        "call_over", 409,
        "通话已结束。", "This call has ended.",
        "问诊仍在继续,可发消息或由医生重新发起通话。", "The visit goes on: write, or let the doctor call again.",
    ),
    Problem(
        "calls_unavailable", 503,
        "暂时不能语音或视频通话。", "Voice and video calls are not available now.",
        "请用文字、图片或语音消息交流。", "Go on with text, pictures or voice messages.",
    ),
    Problem(
        "not_authentic", 401,
        "签名无效。", "The signature is not valid.",
        "请检查密钥。", "Check the key.",
    ),
    Problem(
        "too_early", 409,
        "还没有到时间。", "It is not time for this yet.",
        "请稍后再试。", "Try again later.",
    ),
    Problem(
        "live_full", 503,
        "实时连接已满。", "There are too many live connections.",
        "消息可正常收发,请稍后刷新。", "Messages can be read and sent without it; refresh in a moment.",
    ),
)
