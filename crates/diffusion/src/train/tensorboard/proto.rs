//! The few messages of `event.proto` and `summary.proto` that are written, in protobuf's wire format.
//!
//! Only what an event file of scalars, images and text needs: there is no message type, a message is its bytes.

/// Contents of files whose restarts TensorBoard recognises.
const FILE_VERSION: &[u8] = b"brain.Event:2";
/// `SessionLog.SessionStatus.START`.
const SESSION_START: u64 = 1;
/// `DataType.DT_STRING`.
const STRING: u64 = 7;

/// A message under construction. Fields are numbered as in the `.proto` files.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, field: u32, value: u64) -> Self {
        self.key(field, 0);
        self.number(value);
        self
    }

    fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, 2);
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.number(u64::from(field << 3 | wire_type));
    }

    /// Seven bits a byte, low ones first; the top bit says that more follow.
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// An `Event` without content.
fn event(wall_time: f64, step: i64) -> Message {
    Message::default().double(1, wall_time).varint(2, step.cast_unsigned())
}

/// The event that opens a file.
pub(super) fn file_version(wall_time: f64) -> Vec<u8> {
    Message::default().double(1, wall_time).bytes(3, FILE_VERSION).0
}

/// The event that says that a run goes on from `step`.
pub(super) fn session_start(wall_time: f64, step: i64) -> Vec<u8> {
    event(wall_time, step).message(7, &Message::default().varint(1, SESSION_START)).0
}

/// One tagged value of a summary.
pub(super) struct Value(Message);

impl Value {
    pub(super) fn scalar(tag: &str, value: f32) -> Self {
        Self(Message::default().bytes(1, tag.as_bytes()).float(2, value))
    }

    /// An encoded image file and its size; `channels` is 1 to 4: grey, grey and alpha, RGB, RGBA.
    pub(super) fn image(
        tag: &str,
        (width, height): (usize, usize),
        channels: usize,
        file: &[u8],
    ) -> Self {
        let image = Message::default()
            .varint(1, height as u64)
            .varint(2, width as u64)
            .varint(3, channels as u64)
            .bytes(4, file);
        Self(Message::default().bytes(1, tag.as_bytes()).message(4, &image))
    }

    /// Markdown, as a tensor of one string that is marked as the text plugin's.
    pub(super) fn text(tag: &str, text: &str) -> Self {
        let plugin = Message::default().bytes(1, b"text");
        let metadata = Message::default().message(1, &plugin);
        let shape = Message::default().message(2, &Message::default().varint(1, 1)); // (1)
        let tensor =
            Message::default().varint(1, STRING).message(2, &shape).bytes(8, text.as_bytes());
        let value = Message::default().bytes(1, tag.as_bytes());
        Self(value.message(8, &tensor).message(9, &metadata))
    }

    /// The event that logs this value alone.
    pub(super) fn event(&self, wall_time: f64, step: i64) -> Vec<u8> {
        event(wall_time, step).message(5, &Message::default().message(1, &self.0)).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        // 300 = 0b10_0101100, the example of protobuf's documentation of its encoding
        assert_eq!(Message::default().varint(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().varint(2, 300).0, [0x10, 0xac, 0x02]);
        assert_eq!(Message::default().bytes(2, b"testing").0, b"\x12\x07testing");
        assert_eq!(Message::default().varint(1, u64::MAX).0.len(), 11);
    }

    #[test]
    fn a_scalar_is_an_event_with_a_summary_with_a_value() {
        let bytes = Value::scalar("a", 1.0).event(2.0, 3);
        let expected = [
            &[0x09][..],
            &2.0_f64.to_le_bytes(),
            &[0x10, 3],           // step
            &[0x2a, 10, 0x0a, 8], // summary of 10 bytes, value of 8
            &[0x0a, 1, b'a', 0x15],
            &1.0_f32.to_le_bytes(),
        ];
        assert_eq!(bytes, expected.concat());
    }
}
