//! A display of pixels: a dumb buffer of the first card that has one connected (DRM), for kernels
//! without virtual terminals.

use crate::kernel::Pixels;
use drm::{
    buffer::{Buffer, DrmFourcc},
    control::{ClipRect, Device, connector, dumbbuffer::DumbBuffer, framebuffer},
};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
};

const CARD: &str = "/dev/dri/card0";

struct Card(File);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Card {}
impl Device for Card {}

/// While it is there, the buffer is what the display shows.
struct Shown {
    card: Card,
    buffer: DumbBuffer,
    frame: framebuffer::Handle,
}

pub(super) fn open() -> io::Result<Box<dyn Pixels>> {
    let card = Card(File::options().read(true).write(true).open(CARD)?);
    let resources = card.resource_handles()?;
    let connected = resources
        .connectors()
        .iter()
        .filter_map(|handle| card.get_connector(*handle, true).ok())
        .find(|connector| connector.state() == connector::State::Connected);
    let connector = connected.ok_or(io::ErrorKind::NotFound)?;
    let mode = *connector.modes().first().ok_or(io::ErrorKind::NotFound)?;
    let crtc = *resources.crtcs().first().ok_or(io::ErrorKind::NotFound)?;
    let (width, height) = mode.size();
    let size = (u32::from(width), u32::from(height));
    let buffer = card.create_dumb_buffer(size, DrmFourcc::Xrgb8888, 32)?;
    let frame = card.add_framebuffer(&buffer, 24, 32)?;
    card.set_crtc(crtc, Some(frame), (0, 0), &[connector.handle()], Some(mode))?;
    Ok(Box::new(Shown { card, buffer, frame }))
}

impl Pixels for Shown {
    fn size(&self) -> (u32, u32) {
        self.buffer.size()
    }

    fn show(&mut self, pixels: &[u32]) -> io::Result<()> {
        let ((width, height), pitch) = (self.buffer.size(), self.buffer.pitch() as usize);
        let mut mapped = self.card.map_dumb_buffer(&mut self.buffer)?;
        for (line, row) in mapped.as_mut().chunks_mut(pitch).zip(pixels.chunks(width as usize)) {
            for (place, pixel) in line.chunks_exact_mut(4).zip(row) {
                place.copy_from_slice(&pixel.to_le_bytes());
            }
        }
        drop(mapped);
        // Drivers that show a copy of the buffer are told; others know no such call.
        let (x, y) = (u16::try_from(width), u16::try_from(height));
        let all = ClipRect::new(0, 0, x.unwrap_or(u16::MAX), y.unwrap_or(u16::MAX));
        let _ = self.card.dirty_framebuffer(self.frame, &[all]);
        Ok(())
    }
}
