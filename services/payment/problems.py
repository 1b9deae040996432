"""What the payment service refuses, as the patient or the cashier reads it."""

from eventkit.problems import Problem

PROBLEMS = (
    Problem("not_ready", 409, "正在进行医保分解,请稍候。", "The insurer is still splitting the fee.",
            "请几秒后刷新再支付。", "Refresh in a few seconds, then pay."),
    Problem("already_paid", 409, "该订单已支付。", "This order is already paid.",
            "请在订单中心查看,无需重复支付。", "See it in the order centre; there is nothing more to pay."),
    Problem("payment_expired", 409, "该订单已超过支付时间或已取消,不能再支付。", "The time to pay this order is over.",
            "如仍需就诊请重新挂号;处方请到医院咨询。",
            "Book again if you still need the visit; for a prescription ask the hospital."),
    Problem("settled_offline", 409, "该处方已在医院窗口或自助机结算,不能再线上支付。",
            "This prescription was settled at the hospital; it cannot be paid online as well.",
            "请凭处方到药房取药。", "Collect the drugs at the hospital's pharmacy."),
    Problem("not_eligible", 422, "您目前不符合线上复诊条件,不能支付,请查看具体原因。",
            "You may not be treated online at the moment, so the fee cannot be paid; see `failed`.",
            "请按提示处理,或到医院线下就诊。", "Do as each reason says, or see a doctor at the hospital."),
    Problem("not_authentic", 401, "通知签名无效。", "This notice is not from the provider.",
            "请检查签名后重新发送。", "Check the signature and send it again."),
    Problem("capture_mismatch", 409, "通知与订单不符。", "The notice does not fit the order.",
            "请人工核对。", "People must compare both books."),
    Problem("refund_mismatch", 409, "退款通知与退款单不符。", "The notice does not fit the refund.",
            "请人工核对。", "People must compare both books."),
    Problem("nothing_to_retry", 409, "该退款没有需要重试的部分。", "No part of this refund waits for a retry.",
            "请刷新后查看退款进度。", "Refresh to see where the refund stands."),
    Problem("bank_card_needed", 422, "原支付账户无法收款,请提供患者的银行卡信息后重试。",
            "The account that paid takes no money back: give a bank card of the patient's.",
            "请填写 bank_card 后重新提交。", "Fill in bank_card and submit again."),
    Problem("bank_card_refused", 409, "支付机构不接受该银行卡({reason})。",
            "The provider does not accept this bank card ({reason}).",
            "请与患者核对银行卡信息。", "Check the card with the patient."),
)
