//! Frames: an unsigned varint length (protobuf's), then so many bytes.

use prost::{DecodeError, Message, encoding};
use std::io::{self, ErrorKind, Read, Write};

/// The longest frame: CometBFT's own limit on an ABCI message (`abci/types/messages.go`,
/// `maxMsgSize`), which its largest block of 100 MB stays under.
pub const MAX_FRAME_LEN: usize = 104_857_600;
/// What one read asks for, and what a connection's buffer shrinks back to after a large frame.
const READ_LEN: usize = 64 << 10;
/// Answers are written out when so much of them has gathered, though more requests wait.
const WRITE_LEN: usize = 256 << 10;
/// A varint of 64 bits has at most so many bytes.
const MAX_VARINT_LEN: usize = 10;

/// Bytes that are no ABCI frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Socket(#[from] io::Error),
    /// It ended inside a frame.
    #[error("the connection ended inside a message")]
    Cut,
    /// The length is no varint.
    #[error("a message's length cannot be read: the peer speaks another protocol")]
    Length,
    /// The length is over the limit.
    #[error("a message of {0} bytes was announced; {MAX_FRAME_LEN} are the most")]
    TooLong(u64),
    /// The message is not what it should be.
    #[error("a message cannot be decoded ({0}): the peer is of another version")]
    Decode(#[from] DecodeError),
}

/// Reads frames. Each byte is copied once into the buffer and looked at once by the decoder.
pub struct FrameReader<R> {
    from: R,
    buffer: Vec<u8>,
    /// What is read but not decoded: `buffer[start..end]`.
    start: usize,
    end: usize,
}

impl<R: Read> FrameReader<R> {
    /// A reader with an empty buffer.
    pub fn new(from: R) -> Self {
        Self { from, buffer: vec![0; READ_LEN], start: 0, end: 0 }
    }

    /// Whether a whole frame waits in the buffer, so that [`FrameReader::read`] will not block.
    pub fn has_frame(&self) -> bool {
        matches!(self.announced(), Ok(Some((header, len))) if self.end - self.start >= header + len)
    }

    /// The next message; `None` where the peer closed the connection between two.
    pub fn read<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        loop {
            let wanted = match self.announced()? {
                Some((header, len)) if self.end - self.start >= header + len => {
                    let begin = self.start + header;
                    let message = M::decode(&self.buffer[begin..begin + len])?;
                    self.start = begin + len;
                    return Ok(Some(message));
                }
                Some((header, len)) => header + len,
                None => MAX_VARINT_LEN,
            };
            if !self.fill(wanted)? {
                return if self.start == self.end { Ok(None) } else { Err(FrameError::Cut) };
            }
        }
    }

    /// Length of the next frame's header and of its content; `None` before the header is whole.
    fn announced(&self) -> Result<Option<(usize, usize)>, FrameError> {
        let ready = &self.buffer[self.start..self.end];
        let header = match ready.iter().take(MAX_VARINT_LEN).position(|byte| byte & 0x80 == 0) {
            Some(last) => last + 1,
            None if ready.len() < MAX_VARINT_LEN => return Ok(None),
            None => return Err(FrameError::Length),
        };
        let announced =
            encoding::decode_varint(&mut &ready[..header]).map_err(|_| FrameError::Length)?;
        match usize::try_from(announced) {
            Ok(len) if len <= MAX_FRAME_LEN => Ok(Some((header, len))),
            _ => Err(FrameError::TooLong(announced)),
        }
    }

    /// Reads once, with room for a frame of `wanted` bytes; false at the connection's end.
    fn fill(&mut self, wanted: usize) -> Result<bool, FrameError> {
        if self.start > 0 {
            // What waits is less than one frame, so this moves each byte at most once a frame.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            // Doubling follows what arrived, not what was announced, and keeps copying linear.
            let doubled = self.buffer.len() * 2;
            self.buffer.resize(doubled.min(wanted.max(READ_LEN)).max(self.end + 1), 0);
        } else if wanted <= READ_LEN && self.end <= READ_LEN && self.buffer.len() > READ_LEN {
            self.buffer.truncate(READ_LEN);
            self.buffer.shrink_to_fit();
            if self.end == READ_LEN {
                self.buffer.resize(2 * READ_LEN, 0);
            }
        }
        loop {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Gathers frames and writes them together.
pub struct FrameWriter<W> {
    to: W,
    buffer: Vec<u8>,
}

impl<W: Write> FrameWriter<W> {
    /// A writer with nothing gathered.
    pub fn new(to: W) -> Self {
        Self { to, buffer: Vec::with_capacity(READ_LEN) }
    }

    /// Adds a message; writes out only where much has gathered.
    pub fn push<M: Message>(&mut self, message: &M) -> Result<(), FrameError> {
        match message.encode_length_delimited(&mut self.buffer) {
            Ok(()) => {}
            Err(error) => unreachable!("a vector has room: {error}"),
        }
        if self.buffer.len() >= WRITE_LEN { self.flush() } else { Ok(()) }
    }

    /// Writes out what has gathered.
    pub fn flush(&mut self) -> Result<(), FrameError> {
        if !self.buffer.is_empty() {
            self.to.write_all(&self.buffer)?;
            self.to.flush()?;
            self.buffer.clear();
            self.buffer.shrink_to(WRITE_LEN);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tendermint_proto::v0_38::abci::RequestEcho;

    fn echo(len: usize) -> RequestEcho {
        RequestEcho { message: "x".repeat(len) }
    }

    fn written(lens: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes);
        lens.iter().for_each(|len| writer.push(&echo(*len)).unwrap());
        writer.flush().unwrap();
        bytes
    }

    /// Gives its bytes a few at a time and counts what it is asked to copy.
    struct Trickle<'a> {
        bytes: &'a [u8],
        most: usize,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = self.most.min(into.len());
            self.bytes.read(&mut into[..most])
        }
    }

    #[test]
    fn messages_arrive_whole_however_they_were_cut() {
        let lens = [0, 1, 127, 128, 70_000, 3, 300_000, 5];
        let bytes = written(&lens);
        for most in [1, 7, 4096, 1 << 20] {
            let mut reader = FrameReader::new(Trickle { bytes: &bytes, most });
            for len in lens {
                let message: RequestEcho = reader.read().unwrap().unwrap();
                assert_eq!(message.message.len(), len, "in pieces of {most}");
            }
            assert!(reader.read::<RequestEcho>().unwrap().is_none());
            assert!(reader.buffer.len() <= 4 * READ_LEN, "memory is given back");
        }
    }

    #[test]
    fn a_cut_a_giant_and_a_wrong_length_are_errors() {
        let bytes = written(&[100]);
        let mut reader = FrameReader::new(&bytes[..50]);
        assert!(matches!(reader.read::<RequestEcho>(), Err(FrameError::Cut)));
        let mut reader = FrameReader::new([0xff, 0xff, 0xff, 0xff, 0x0f].as_slice());
        assert!(matches!(reader.read::<RequestEcho>(), Err(FrameError::TooLong(_))));
        let mut reader = FrameReader::new([0xff; 20].as_slice());
        assert!(matches!(reader.read::<RequestEcho>(), Err(FrameError::Length)));
        let mut reader = FrameReader::new([2, 0xff, 0xff].as_slice());
        assert!(matches!(reader.read::<RequestEcho>(), Err(FrameError::Decode(_))));
    }

    #[test]
    fn an_announced_giant_takes_no_memory_before_it_arrives() {
        let mut header = Vec::new();
        encoding::encode_varint(MAX_FRAME_LEN as u64, &mut header);
        let mut reader = FrameReader::new(header.as_slice());
        assert!(reader.read::<RequestEcho>().is_err());
        assert_eq!(reader.buffer.len(), READ_LEN);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), most in 1usize..50) {
            let mut reader = FrameReader::new(Trickle { bytes: &bytes, most });
            while let Ok(Some(_)) = reader.read::<RequestEcho>() {}
        }
    }
}
