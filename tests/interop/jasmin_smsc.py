"""Jasmin's own SMPP server as a carrier, alone: no broker, no Redis. Run by the Python of Jasmin's environment.

Lines of JSON on stdout tell what it got; lines on stdin say what it is to do (`peers` has both lists).
"""

import json
import logging
import pickle
import sys
from datetime import UTC, datetime
from itertools import count
from threading import Thread

from jasmin.protocols.smpp.configs import SMPPServerConfig
from jasmin.protocols.smpp.factory import SMPPServerFactory
from jasmin.protocols.smpp.operations import SMPPOperationFactory
from jasmin.routing.configs import RouterPBConfig
from jasmin.routing.jasminApi import Group, SmppClientConnector, User
from jasmin.routing.router import RouterPB
from jasmin.routing.Routes import DefaultRoute
from jasmin.tools.cred.checkers import RouterAuthChecker
from jasmin.tools.cred.portal import SmppsRealm
from smpp.pdu.operations import DeliverSM
from smpp.pdu.pdu_types import (
    AddrNpi,
    AddrTon,
    DataCoding,
    DataCodingDefault,
    EsmClass,
    EsmClassGsmFeatures,
    EsmClassMode,
    EsmClassType,
)
from twisted.cred.portal import Portal
from twisted.internet import reactor

SYSTEM_ID, PASSWORD = sys.argv[1:3]


def tell(**line):
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


class Sent:
    """What Jasmin's queue answers: the id under which it took a text."""

    def __init__(self, result):
        self.result = result


class Queue:
    """In the place of the connectors to real carriers: takes each text and tells of it."""

    def __init__(self):
        self._numbers = count(1)

    def perspective_submit_sm(self, *, SubmitSmPDU, **_):  # noqa: N803 # Jasmin's name
        told = SubmitSmPDU.params
        message_id = f"j-{next(self._numbers):08x}"
        coding = told["data_coding"]
        tell(
            got="submit_sm",
            id=message_id,
            source=told["source_addr"].decode(),
            destination=told["destination_addr"].decode(),
            octets=(told.get("short_message") or told.get("message_payload") or b"").hex(),
            coding=coding.schemeData.name if coding.scheme.name == "DEFAULT" else str(coding),
            udhi=EsmClassGsmFeatures.UDHI_INDICATOR_SET in told["esm_class"].gsmFeatures,
            sar=[told.get(f"sar_{name}") for name in ("msg_ref_num", "total_segments", "segment_seqnum")],
            validity=told["validity_period"],
        )
        return Sent(message_id)


def serve():
    router = RouterPB(RouterPBConfig(), persistenceTimer=False)
    user = User("u1", Group("g1"), SYSTEM_ID, PASSWORD)
    router.perspective_group_add(pickle.dumps(user.group, pickle.HIGHEST_PROTOCOL))
    router.perspective_user_add(pickle.dumps(user, pickle.HIGHEST_PROTOCOL))
    route = DefaultRoute(SmppClientConnector("c1"))
    router.perspective_mtroute_add(pickle.dumps(route, pickle.HIGHEST_PROTOCOL), 0)
    config = SMPPServerConfig()
    config.log_privacy = True  # else its log stumbles over a data_sm without a text
    portal = Portal(SmppsRealm(config.id, router))
    portal.registerChecker(RouterAuthChecker(router))
    factory = SMPPServerFactory(config, portal, RouterPB=router, SMPPClientManagerPB=Queue())
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    tell(port=port.getHost().port)
    return factory


def do(factory, asked):
    """One line from stdin."""
    binding = factory.bound_connections[SYSTEM_ID].getNextBindingForDelivery()
    match asked.pop("do"):
        case "receipt":
            pdu = SMPPOperationFactory().getReceipt(
                dlr_pdu=asked["by"],
                msgid=asked["id"],
                source_addr=asked["source"],
                destination_addr=asked["destination"],
                message_status=asked["stat"],
                err="000",
                sub_date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
                source_addr_ton=AddrTon.UNKNOWN,
                source_addr_npi=AddrNpi.UNKNOWN,
                dest_addr_ton=AddrTon.UNKNOWN,
                dest_addr_npi=AddrNpi.UNKNOWN,
            )
        case "deliver":
            features = [EsmClassGsmFeatures.UDHI_INDICATOR_SET] if asked["udhi"] else []
            pdu = DeliverSM(
                source_addr=asked["source"],
                destination_addr=asked["destination"],
                short_message=bytes.fromhex(asked["octets"]),
                data_coding=DataCoding(schemeData=DataCodingDefault[asked["coding"]]),
                esm_class=EsmClass(EsmClassMode.DEFAULT, EsmClassType.DEFAULT, features),
                **asked.get("sar", {}),
            )
        case "unbind":
            for system_id in list(factory.bound_connections):
                factory.unbindGateway(system_id)
            return
    binding.sendDataRequest(pdu).addCallbacks(
        lambda answered: tell(got="answer", status=answered.response.status.name),
        lambda failure: tell(got="error", error=str(failure.value)),
    )


def listen(factory):
    def carefully(asked):
        try:
            do(factory, asked)
        except Exception as error:  # noqa: BLE001 # for the test to see
            tell(got="defect", error=repr(error))

    for line in sys.stdin:
        reactor.callFromThread(carefully, json.loads(line))
    reactor.callFromThread(reactor.stop)


logging.disable(logging.CRITICAL)
server = serve()
Thread(target=listen, args=(server,), daemon=True).start()
reactor.run(installSignalHandlers=False)
