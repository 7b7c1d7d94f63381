from twisted.application.service import ServiceMaker

archive_crypt = ServiceMaker(
    "archive_crypt", "archive_crypt.tap", "An XMPP message archive that cannot read itself", "archive-crypt"
)
