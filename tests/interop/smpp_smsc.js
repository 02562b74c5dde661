// The SMPP server of the npm package `smpp` as a carrier. Lines of JSON on stdout tell what it got; lines on stdin say
// what it is to do (peers.py has both lists).
'use strict';

const readline = require('readline');
const smpp = require('smpp');

const [systemId, password] = process.argv.slice(2);
const bound = []; // sessions, with what they were bound as
const known = new Map(); // by message id, for queries
let next = 1;
let status = 0; // of the answers to texts

smpp.addTLV('hotsite_vendor', { id: 0x1450, type: smpp.types.tlv.cstring });

function tell(line) {
  process.stdout.write(JSON.stringify(line) + '\n');
}

function octets(message) {
  // What is decoded comes as {message}, what has a header as {udh, message}; the buffer of a raw one is itself.
  if (Buffer.isBuffer(message)) return message.toString('hex');
  return message;
}

function took(session, pdu) {
  const id = 'n-' + (next++).toString(16).padStart(8, '0');
  const body = pdu.command === 'data_sm' ? pdu.message_payload : pdu.short_message;
  known.set(id, pdu);
  tell({
    got: pdu.command, id: status ? '' : id, source: pdu.source_addr, destination: pdu.destination_addr,
    text: body.message || '', udh: (body.udh || []).map((element) => element.toString('hex')),
    payload: pdu.message_payload && pdu.command === 'submit_sm' ? pdu.message_payload.message : null,
    coding: pdu.data_coding, esm_class: pdu.esm_class, registered_delivery: pdu.registered_delivery,
    sar: [pdu.sar_msg_ref_num, pdu.sar_total_segments, pdu.sar_segment_seqnum].map((value) => value ?? null),
    validity: pdu.validity_period || null, time_to_live: pdu.qos_time_to_live ?? null,
  });
  session.send(pdu.response({ command_status: status, message_id: id, hotsite_vendor: 'passed over' }));
}

const server = smpp.createServer((session) => {
  for (const kind of ['bind_transceiver', 'bind_transmitter', 'bind_receiver']) {
    session.on(kind, (pdu) => {
      const wrong = pdu.system_id !== systemId ? smpp.ESME_RINVSYSID
        : pdu.password !== password ? smpp.ESME_RINVPASWD : 0;
      session.send(pdu.response({ command_status: wrong, system_id: 'npm-smpp', sc_interface_version: 0x34 }));
      if (!wrong) bound.push({ session, kind });
      tell({ got: kind, status: wrong });
    });
  }
  session.on('submit_sm', (pdu) => took(session, pdu));
  session.on('data_sm', (pdu) => took(session, pdu));
  session.on('query_sm', (pdu) => {
    const there = known.has(pdu.message_id);
    session.send(pdu.response({
      command_status: there ? 0 : smpp.ESME_RQUERYFAIL, message_id: pdu.message_id, message_state: 2,
      final_date: new Date(Date.UTC(2026, 10, 27, 8, 30, 0)), error_code: 0,
    }));
    tell({ got: 'query_sm', id: pdu.message_id, source: pdu.source_addr });
  });
  session.on('enquire_link', (pdu) => {
    session.send(pdu.response());
    tell({ got: 'enquire_link' });
  });
  session.on('unbind', (pdu) => {
    session.send(pdu.response());
    tell({ got: 'unbind' });
    session.close();
  });
  session.on('close', () => tell({ got: 'close' }));
  session.on('error', (error) => tell({ got: 'error', error: String(error) }));
});

function receiver() {
  return bound.filter(({ session, kind }) => !session.closed && kind !== 'bind_transmitter').at(-1).session;
}

function request(session, pdu) {
  session.send(pdu, (answer) => tell({
    got: 'answer', to: pdu.command, command: answer.command, status: answer.command_status,
  }));
}

function act(asked) {
  switch (asked.do) {
    case 'answer_with':
      status = asked.status;
      tell({ got: 'told' });
      break;
    case 'receipt': {
      const text = `id:${asked.id} sub:001 dlvrd:001 submit date:2611270830 done date:2611270831 `
        + `stat:${asked.stat} err:000 text:`;
      const fields = {
        source_addr: asked.source, destination_addr: asked.destination, esm_class: smpp.ESM_CLASS.MC_DELIVERY_RECEIPT,
        receipted_message_id: asked.id, message_state: smpp.MESSAGE_STATE[asked.state], hotsite_vendor: 'passed over',
      };
      request(receiver(), asked.by === 'data_sm'
        ? new smpp.PDU('data_sm', fields)
        : new smpp.PDU('deliver_sm', { ...fields, short_message: text }));
      break;
    }
    case 'deliver': { // a customer's text, or a part of one
      const { source, destination, text, udh, sar, coding } = asked;
      const message = udh ? { udh: Buffer.from(udh, 'hex'), message: text } : text;
      request(receiver(), new smpp.PDU('deliver_sm', {
        source_addr: source, destination_addr: destination, short_message: message, data_coding: coding,
        esm_class: udh ? smpp.ESM_CLASS.UDH_INDICATOR : 0, ...sar,
      }));
      break;
    }
    case 'alert':
      receiver().send(new smpp.PDU('alert_notification', { source_addr: asked.source, esme_addr: asked.destination }));
      request(receiver(), new smpp.PDU('enquire_link', {}));
      break;
    case 'unknown': // a request of SMPP 5.0, which nobody speaks here
      request(receiver(), new smpp.PDU('broadcast_sm', {
        source_addr: asked.source, message_id: '1', broadcast_area_identifier: [], broadcast_content_type: 0,
        broadcast_rep_num: 1, broadcast_frequency_interval: { unit: 8, interval: 1 },
      }));
      break;
    case 'unbind':
      request(receiver(), new smpp.PDU('unbind', {}));
      break;
    default:
      throw new Error(`no such thing to do: ${asked.do}`);
  }
}

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', (line) => act(JSON.parse(line)));
lines.on('close', () => process.exit(0));
server.listen(0, '127.0.0.1', () => tell({ port: server.address().port }));
