//! Reads zstd files of any number of frames: `cat a.zst b.zst`, `pzstd` and appended logs make several.

use std::io::{self, BufRead, ErrorKind, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The content of all frames, one after the other. Skippable frames have none.
pub(super) struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    /// Whether the decoder has begun a frame.
    has_begun: bool,
}

impl<R: BufRead> Frames<R> {
    /// Reads the first header: an error if the file is no zstd file.
    pub(super) fn new(source: R) -> io::Result<Self> {
        let mut frames = Self { source, decoder: FrameDecoder::new(), has_begun: false };
        if frames.begin()? {
            return Ok(frames);
        }
        Err(io::Error::new(ErrorKind::UnexpectedEof, "it has no content: it is no zstd file"))
    }

    /// Begins the next frame; false at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => {
                    self.has_begun = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => skip(&mut self.source, length.into())?,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

fn skip(source: &mut impl Read, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut source.take(length), &mut io::sink())?;
    if skipped == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 {
            if self.has_begun && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, one).map_err(io::Error::other)?;
            } else if !self.begin()? {
                return Ok(0);
            }
        }
        self.decoder.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    /// A skippable frame (RFC 8878) of three bytes.
    const SKIPPABLE: &[u8] = b"\x50\x2a\x4d\x18\x03\0\0\0abc";

    fn frame(text: &str) -> Vec<u8> {
        compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
    }

    fn read(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        Frames::new(bytes)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn all_frames_are_read() {
        let (one, two) = (frame("one\n"), frame(&"two\n".repeat(100_000)));
        let whole = "one\n".to_owned() + &"two\n".repeat(100_000);
        for frames in [
            [&one[..], &two].concat(),
            [SKIPPABLE, &one, SKIPPABLE, SKIPPABLE, &two, SKIPPABLE].concat(),
            [&one[..], &frame(""), &two].concat(),
        ] {
            assert_eq!(read(&frames).unwrap(), whole);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let one = frame("one\n");
        for bad in [
            b"".to_vec(),
            b"{\"format\"".to_vec(),
            [&one[..], b"text"].concat(),
            one[..one.len() - 3].to_vec(),
            [&one[..], &SKIPPABLE[..9]].concat(),
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
    }
}
