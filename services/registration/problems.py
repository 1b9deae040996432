"""Refusals of registration, as a patient reads them."""

from __future__ import annotations

from eventkit.problems import Problem

PROBLEMS = (
    # --- login (§7)
    Problem("too_many_codes", 429, "获取验证码过于频繁。", "Too many codes were asked for with this phone.",
            "请一小时后再试。", "Try again in an hour."),
    Problem("login_code_wrong", 401, "验证码错误或已失效。", "The code is wrong or no longer valid.",
            "请重新获取验证码。", "Ask for a new code."),
    Problem("client_unknown", 401, "客户端身份验证失败。", "The client id or secret is wrong.",
            "请检查客户端凭据。", "Check the client's credentials."),
    # --- patients and cards (§7, §8, §26)
    Problem("id_number_wrong", 422, "身份证号不正确。", "This is not a valid resident ID number.",
            "请核对身份证号后重新填写。", "Check the number and enter it again."),
    Problem("real_name_unmatched", 422, "姓名和身份证号与医院的记录不一致。",
            "The hospital has nobody on file with this name and ID number.",
            "请核对姓名和身份证号;首次就诊请先到医院建档。",
            "Check both; if you have never been to the hospital, register there in person first."),
    Problem("patient_known", 409, "您已添加过这位就诊人。", "This patient is in your account already.",
            "请在就诊人列表中选择。", "Choose the patient from your list."),
    Problem("guardian_needed", 422, "未满{age}周岁的就诊人须有监护人同意。",
            "A patient under {age} needs a guardian's consent.",
            "请填写监护人信息并确认同意。", "Fill in the guardian and confirm the consent."),
    Problem("guardian_wrong", 422, "监护人的身份证号不正确,或监护人未成年。",
            "The guardian's ID number is wrong, or the guardian is a minor.",
            "请核对监护人信息。", "Check the guardian's details."),
    Problem("guardian_must_act", 422, "未满{age}周岁的就诊人须由监护人代为办理。",
            "For a patient under {age} the guardian acts.",
            "请用监护人的账号添加,关系选择子女或被监护人。",
            "Add the patient in the guardian's account, as child or ward."),
    Problem("card_unknown", 422, "医院没有这位就诊人使用过此卡的记录。",
            "The hospital does not know this card as used by this patient.",
            "请绑定本人在本院使用过的就诊卡或医保卡。",
            "Bind a visit or insurance card that the patient has used here."),
    # --- photos (§10)
    Problem("photo_unreadable", 422, "无法识别这张图片。", "This picture cannot be read.",
            "请上传清晰的 JPEG、PNG 或 WebP 照片。", "Upload a JPEG, PNG or WebP picture."),
    Problem("photo_unknown", 422, "找不到所选的照片。", "A chosen photo is not among this patient's.",
            "请重新上传照片。", "Upload the photo again."),
    # --- sessions (§9)
    Problem("doctor_unknown", 422, "该科室没有这位医生。", "There is no such doctor in this department.",
            "请重新选择科室和医生。", "Choose department and doctor again."),
    Problem("session_known", 409, "该出诊已存在。",
            "This session exists already.", "请查看出诊列表。", "See the list of sessions."),
    Problem("session_malformed", 422, "出诊时间须在同一天内,并能平均分成1至{most}个号源。",
            "A session lies within one day and divides into 1 to {most} whole slots.",
            "请调整起止时间或每号时长。", "Change the times or the length of a slot."),
    Problem("session_overlaps", 409, "与该医生的其他出诊时间重叠。", "The doctor sits in another session at that time.",
            "请选择其他时间。", "Choose another time."),
    # --- booking (§4, §5, §9, §30)
    Problem("notice_outdated", 409, "服务须知已更新。", "The service notice has changed.",
            "请阅读并确认最新的服务须知。", "Read and confirm the current notice."),
    Problem("session_over", 409, "该时段已过。", "This time has passed.", "请选择其他时段。", "Choose another time."),
    Problem("slot_gone", 409, "该号源已不存在。",
            "This slot is no longer offered.", "请选择其他号源。", "Choose another slot."),
    Problem("slot_taken", 409, "该号源已被他人预约。", "Somebody else has this slot.",
            "请选择其他号源;如他人未按时支付,号源会重新放出。",
            "Choose another slot; if it is not paid for in time it comes back."),
    Problem("already_booked", 409, "这位就诊人当天已预约过这位医生。",
            "This patient has a visit with this doctor on that day already.",
            "请在问诊单中查看,或选择其他日期。", "See your visits, or choose another day."),
    Problem("not_eligible", 422, "暂不符合互联网复诊条件。",
            "The conditions for an online follow-up visit are not met.",
            "请查看每一项原因。", "See each reason in `failed`."),
    # --- withdrawal (§29)
    Problem("already_accepted", 409, "医生已接诊,不能退号。",
            "The doctor has accepted; the visit can no longer be withdrawn.",
            "请在问诊中与医生沟通。", "Talk to the doctor in the consult."),
    Problem("visit_over", 409, "该问诊已结束。",
            "This visit is over.", "请在问诊单中查看状态。", "See its state in your visits."),
)
