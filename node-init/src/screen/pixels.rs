//! The screen's lines as pixels, for displays that have no text console. Pure.

use embedded_graphics::{
    Drawable, Pixel,
    draw_target::DrawTarget,
    geometry::{OriginDimensions, Point, Size},
    mono_font::{MonoTextStyle, iso_8859_1::FONT_10X20},
    pixelcolor::BinaryColor,
    text::{Baseline, Text},
};
use std::convert::Infallible;

/// A character's cell in pixels: half of it is square, as a module of a QR code must be.
pub const CELL: (u32, u32) = (10, 20);
/// Soft white on black, as XRGB8888.
const INK: u32 = 0x00e8_e8e8;

struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u32>,
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

impl DrawTarget for Canvas {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(at, color) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(at.x), u32::try_from(at.y)) else { continue };
            if x < self.width && y < self.height {
                let place = y as usize * self.width as usize + x as usize;
                if let Some(pixel) = self.pixels.get_mut(place) {
                    *pixel = if color.is_on() { INK } else { 0 };
                }
            }
        }
        Ok(())
    }
}

/// Draws lines of text and half-block characters; gives `width` times `height` pixels, XRGB8888,
/// line by line.
pub fn paint(lines: &[String], width: u32, height: u32) -> Vec<u32> {
    let pixels = vec![0; width as usize * height as usize];
    let mut canvas = Canvas { width, height, pixels };
    let style = MonoTextStyle::new(&FONT_10X20, BinaryColor::On);
    for (row, line) in (0i32..).zip(lines) {
        for (column, character) in (0i32..).zip(line.chars()) {
            let (x, y) = (column * CELL.0 as i32, row * CELL.1 as i32);
            let blocks: &[i32] = match character {
                '█' => &[0, 1],
                '▀' => &[0],
                '▄' => &[1],
                _ => &[],
            };
            for half in blocks {
                let side = CELL.0 as i32;
                let square = (0..side).flat_map(|dy| (0..side).map(move |dx| (dx, dy)));
                let points = square.map(|(dx, dy)| Point::new(x + dx, y + half * side + dy));
                let Ok(()) = canvas.draw_iter(points.map(|at| Pixel(at, BinaryColor::On)));
            }
            if blocks.is_empty() && character != ' ' {
                // What the font lacks it shows as a question mark.
                let mut bytes = [0; 4];
                let text = character.encode_utf8(&mut bytes);
                let Ok(_) = Text::with_baseline(text, Point::new(x, y), style, Baseline::Top)
                    .draw(&mut canvas);
            }
        }
    }
    canvas.pixels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::{Status, draw};

    #[test]
    fn the_code_on_a_display_of_pixels_can_be_read() {
        let page = "http://10.77.0.1:8080/machines/52:54:00:a1:1a:01";
        let status = Status { page: Some(page.into()), ..Status::default() };
        for (width, height) in [(800, 600), (1024, 768), (1920, 1080)] {
            let lines = draw(&status, (width / CELL.0) as usize, (height / CELL.1) as usize);
            let pixels = paint(&lines, width, height);
            let (width, height) = (width as usize, height as usize);
            assert_eq!(pixels.len(), width * height);
            let grey = |x: usize, y: usize| (pixels[y * width + x] & 0xff) as u8;
            let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, grey);
            let grids = image.detect_grids();
            assert_eq!(grids.len(), 1, "{width}x{height}");
            assert_eq!(grids[0].decode().unwrap().1, page);
        }
    }

    #[test]
    fn text_leaves_ink_and_nothing_is_drawn_beyond_the_display() {
        let pixels = paint(&["hi".to_owned(), "x".repeat(200)], 25, 25);
        assert_eq!(pixels.len(), 625);
        assert!(pixels.contains(&INK));
        assert!(pixels[..25].iter().all(|pixel| *pixel == 0 || *pixel == INK));
        assert!(paint(&["x".to_owned()], 0, 0).is_empty());
    }
}
