//! TensorBoard's event files: scalars by tag and step.
//!
//! A file is a sequence of records (little-endian):
//!
//! ```text
//! u64 length of the data | u32 masked CRC-32C of these 8 bytes | data | u32 masked CRC-32C of the data
//! ```
//!
//! where masked(c) = ((c >> 15) | (c << 17)) + 0xa282ead8, and the data of each is one [`Event`]
//! in protobuf's wire format, the first with the version of the format. This is what TensorFlow's
//! `event.proto` and `summary.proto` define, with the fields that scalars need.

use prost::Message;

/// A part of `tensorflow.Event`.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    /// `brain.Event:2`, in the first event alone.
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// A part of `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

/// A part of `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    /// One of several kinds of value, so that 0 is written too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The scalars of one step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalars {
    /// Seconds since 1970.
    pub(crate) wall_time: f64,
    /// Their step.
    pub(crate) step: usize,
    /// Tag and value of each.
    pub(crate) values: Vec<(String, f64)>,
}

/// The content of an event file.
pub(crate) fn events(steps: &[Scalars]) -> Vec<u8> {
    let first = Event {
        wall_time: steps.first().map_or(0.0, |step| step.wall_time),
        file_version: Some("brain.Event:2".into()),
        ..Event::default()
    };
    let mut file = record(&first);
    for step in steps {
        let value = |(tag, value): &(String, f64)| Value {
            tag: tag.clone(),
            simple_value: Some(*value as f32),
        };
        file.extend(record(&Event {
            wall_time: step.wall_time,
            step: step.step as i64,
            summary: Some(Summary {
                value: step.values.iter().map(value).collect(),
            }),
            ..Event::default()
        }));
    }
    file
}

fn record(event: &Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked(&length).to_le_bytes());
    record.extend(&data);
    record.extend(masked(&data).to_le_bytes());
    record
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_bytes_that_tensorboard_writes() {
        // By tests/tensorboard/events.py.
        let expected = include_bytes!("../tests/tensorboard/events.tfevents");
        let step = |step: usize, values: &[(&str, f64)]| Scalars {
            wall_time: 1_700_000_000.25 + step as f64,
            step,
            values: values
                .iter()
                .map(|(tag, value)| ((*tag).to_owned(), *value))
                .collect(),
        };
        let steps = [
            step(0, &[("loss/test", 2.25), ("cosine_test/block_07", 0.0)]),
            step(1, &[("loss/test", f64::INFINITY), ("accuracy/test", 0.1)]),
            step(300, &[("‖F‖", -0.155)]),
        ];
        assert_eq!(events(&steps), expected);
    }
}
