-- Reads every row once, beside everybody's work: a validation stops no reader and no writer.
alter table hotsite.message validate constraint message_first;
alter table hotsite.delivery validate constraint delivery_first;
alter table hotsite.event validate constraint event_first;
