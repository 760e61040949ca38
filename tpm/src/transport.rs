//! Where commands go: a device file, or a socket of an emulated chip.

use std::io::{self, Read, Write};

/// The longest response that is taken; the specification's chips have 4 KiB at most.
const MAX_RESPONSE: usize = 8192;
/// Tag, size, code.
pub(crate) const HEADER: usize = 10;

/// Carries one command to a chip and its response back.
pub trait Transport: Send {
    /// Sends a whole command; gives the whole response.
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;
}

/// Bytes in, bytes out: `/dev/tpmrm0`, which gives a response in one piece, or a socket, which may
/// give it in several.
#[derive(Debug)]
pub struct Stream<S>(pub S);

impl<S: Read + Write + Send> Transport for Stream<S> {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        // The kernel takes a command in one write or not at all.
        self.0.write_all(command)?;
        self.0.flush()?;
        let mut response = vec![0; MAX_RESPONSE];
        let mut read = 0;
        loop {
            match self.0.read(&mut response[read..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
            if let Some(size) = size(&response[..read])
                && read >= size
            {
                if read > size {
                    return Err(io::Error::other("the TPM said more than its response's size"));
                }
                response.truncate(read);
                return Ok(response);
            }
            if read == response.len() {
                return Err(io::Error::other("the TPM's response has no end"));
            }
        }
    }
}

/// The size that a response's header gives, once that is there.
fn size(response: &[u8]) -> Option<usize> {
    let size = response.get(2..6).filter(|_| response.len() >= HEADER)?;
    usize::try_from(u32::from_be_bytes(size.try_into().ok()?)).ok().map(|size| size.max(HEADER))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its response a few bytes at a time.
    struct Trickle {
        response: Vec<u8>,
        at: usize,
        most: usize,
    }

    impl Read for Trickle {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let rest = &self.response[self.at..];
            let most = rest.len().min(self.most).min(into.len());
            into[..most].copy_from_slice(&rest[..most]);
            self.at += most;
            Ok(most)
        }
    }

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn response(size: u32, bytes: usize) -> Vec<u8> {
        let mut response = vec![0x80, 1];
        response.extend(size.to_be_bytes());
        response.resize(bytes, 0);
        response
    }

    fn transmit(response: Vec<u8>, most: usize) -> io::Result<Vec<u8>> {
        Stream(Trickle { response, at: 0, most }).transmit(&[0; 10])
    }

    #[test]
    fn a_response_is_read_whole_however_it_comes() {
        for most in [1, 3, 9, 100] {
            assert_eq!(transmit(response(42, 42), most).unwrap(), response(42, 42));
        }
    }

    #[test]
    fn a_response_that_lies_about_its_size_is_an_error() {
        assert!(transmit(response(43, 42), 100).is_err());
        assert!(transmit(response(41, 42), 100).is_err());
        assert!(transmit(response(u32::MAX, 20_000), 100).is_err());
        assert!(transmit(response(0, 5), 100).is_err());
    }
}
