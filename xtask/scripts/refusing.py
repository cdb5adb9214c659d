"""A receiver for tests: aiosmtpd's maildir, which refuses by the recipient's local part up to its `+`."""

from aiosmtpd.handlers import Mailbox

AT_RCPT = {"unknown": "550 5.1.1 no such user", "greylist": "450 4.2.0 greylisted"}
AFTER_DOT = {"full": "552 5.2.2 mailbox full", "spam": "554 5.7.1 looks like spam", "later": "451 4.3.0 later"}


class Refusing(Mailbox):
    async def handle_RCPT(self, server, session, envelope, address, options):
        refusal = AT_RCPT.get(address.partition("+")[0])
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(self, server, session, envelope):
        refusal = AFTER_DOT.get(envelope.rcpt_tos[0].partition("+")[0])
        return refusal or await super().handle_DATA(server, session, envelope)
