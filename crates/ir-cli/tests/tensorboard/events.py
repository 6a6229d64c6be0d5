"""Writes events.tfevents with TensorBoard's own writer: pip install tensorboard (2.21.0 was used)."""

import pathlib

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

steps = [
    (0, [("loss/test", 2.25), ("cosine_test/block_07", 0.0)]),
    (1, [("loss/test", float("inf")), ("accuracy/test", 0.1)]),
    (300, [("‖F‖", -0.155)]),
]
with open(pathlib.Path(__file__).with_name("events.tfevents"), "wb") as file:
    writer = RecordWriter(file)
    writer.write(Event(wall_time=1_700_000_000.25, file_version="brain.Event:2").SerializeToString())
    for step, values in steps:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values])
        event = Event(wall_time=1_700_000_000.25 + step, step=step, summary=summary)
        writer.write(event.SerializeToString())
