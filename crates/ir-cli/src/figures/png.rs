//! SVG to PNG, with the fonts that are built in, so that every machine gives the same picture.

use std::sync::Arc;

use anyhow::{Context, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// DejaVu Sans, cut down to the characters that figures use; see `assets/DejaVu-LICENSE.txt`.
const REGULAR: &[u8] = include_bytes!("../../assets/DejaVuSans.subset.ttf");
const BOLD: &[u8] = include_bytes!("../../assets/DejaVuSans-Bold.subset.ttf");

/// Pixels of the PNG to one of the SVG.
const ZOOM: u32 = 2;

/// Draws an SVG as PNG at twice its size.
///
/// # Errors
/// The text is not an SVG document, or its size is beyond what can be drawn.
pub(crate) fn render(svg: &str) -> Result<Vec<u8>> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(REGULAR.to_vec());
    fonts.load_font_data(BOLD.to_vec());
    let options = Options {
        fontdb: Arc::new(fonts),
        ..Options::default()
    };
    let tree = Tree::from_str(svg, &options).context("the figure is not an SVG document")?;
    let size = tree
        .size()
        .to_int_size()
        .scale_by(ZOOM as f32)
        .context("the figure has no size")?;
    let mut pixels = Pixmap::new(size.width(), size.height())
        .with_context(|| format!("the figure is too large: {size:?} pixels"))?;
    let zoom = Transform::from_scale(ZOOM as f32, ZOOM as f32);
    resvg::render(&tree, zoom, &mut pixels.as_mut());
    pixels
        .encode_png()
        .context("the figure cannot be written as PNG")
}
