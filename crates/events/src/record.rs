//! The TFRecord frame around a message.

/// The frame of `message`: its length and itself, each followed by a masked checksum.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut framed = Vec::with_capacity(message.len() + 16);
    framed.extend_from_slice(&length);
    framed.extend_from_slice(&masked_checksum(&length).to_le_bytes());
    framed.extend_from_slice(message);
    framed.extend_from_slice(&masked_checksum(message).to_le_bytes());
    framed
}

/// A CRC-32C, masked because a checksum of data that holds its own checksum is of little use.
fn masked_checksum(bytes: &[u8]) -> u32 {
    const MASK_DELTA: u32 = 0xa282_ead8;
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn frames_as_tensorflow_does() {
        // Written by `tensorboard.summary.writer.record_writer.RecordWriter`.
        let expected = [3, 0, 0, 0, 0, 0, 0, 0, 0xb0, 0x99, 0x49, 0x0e, b'a', b'b', b'c', 0x6e, 0x57, 0xf1, 0x21];
        assert_eq!(frame(b"abc"), expected);
    }
}
