//! How a convolution is shared among the blocks of a GPU: by its sizes alone, so that sums have one order everywhere.

use super::Precision;
use super::backend::Argument;

/// Shared memory that a block may take on every GPU since Ampere.
const LIMIT: usize = 99 << 10;

/// What a kernel reads and what it writes: x and y of a convolution, or, going back, the gradients of y and x.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub(super) images: usize,
    /// Padded channels, height and width of what is read.
    pub(super) source: [usize; 3],
    /// Likewise of what is written.
    pub(super) target: [usize; 3],
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) precision: Precision,
}

/// The part of the target that a block takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    images: usize,
    rows: usize,
    columns: usize,
    /// Channels of the source that are in shared memory at a time.
    chunk: usize,
    pub(super) shared_bytes: usize,
}

impl Tile {
    /// Up to `places` places of the target: whole rows if they are not too long, and whole images if they are small.
    fn of_places(product: &Product, places: usize) -> Self {
        let [_, height, width] = product.target;
        let columns = width.div_ceil(width.div_ceil(32));
        let rows = height.min(places / columns);
        let rows = height.div_ceil(height.div_ceil(rows));
        Self {
            images: product.images.min(places / (rows * columns)),
            rows,
            columns,
            chunk: 0,
            shared_bytes: 0,
        }
    }

    fn smaller(self) -> Self {
        if self.images > 1 {
            let images = self.images.div_ceil(2);
            Self { images, ..self }
        } else if self.rows > 1 {
            let rows = self.rows.div_ceil(2);
            Self { rows, ..self }
        } else {
            let columns = self.columns.div_ceil(2);
            Self { columns, ..self }
        }
    }

    fn places(&self) -> usize {
        self.images * self.rows * self.columns
    }

    /// Rows and columns of the source under an image of it.
    fn window(&self, product: &Product, forward: bool) -> [usize; 2] {
        let along = |count: usize| {
            if forward {
                (count - 1) * product.stride + product.kernel
            } else {
                (count + product.kernel - 2) / product.stride + 1
            }
        };
        [self.rows, self.columns].map(along)
    }

    /// Places of the source under all of it.
    fn window_places(&self, product: &Product, forward: bool) -> usize {
        let [rows, columns] = self.window(product, forward);
        self.images * rows * columns
    }

    /// Tiles along the height and the width of the target.
    fn tiles(&self, product: &Product) -> [usize; 2] {
        let [_, height, width] = product.target;
        [height.div_ceil(self.rows), width.div_ceil(self.columns)]
    }

    /// How many of them there are.
    pub(super) fn count(&self, product: &Product) -> usize {
        let [down, across] = self.tiles(product);
        product.images.div_ceil(self.images) * down * across
    }
}

impl Product {
    fn element(&self) -> usize {
        match self.precision {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }

    /// Channels of the target that a block takes.
    pub(super) fn block_channels(&self) -> usize {
        match self.target[0] {
            16 => 16,
            32 => 32,
            _ => 64,
        }
    }

    /// The threads of a block.
    pub(super) fn threads(&self) -> usize {
        if self.block_channels() == 16 {
            128
        } else {
            256
        }
    }

    /// The tile of a block of `kernels/convolution.cuh`.
    pub(super) fn tile(&self, forward: bool) -> Tile {
        let (channels, taps) = (self.block_channels(), self.kernel * self.kernel);
        let places = 4096 / channels;
        let padding = 16 / self.element();
        // And two for every channel of each warp.
        let sums = (places * (channels + 8) + 2 * self.threads() / 32 * channels) * 4;
        let bytes = |tile: &Tile, chunk: usize| {
            let (rows, length) = if forward {
                (channels, chunk)
            } else {
                (chunk, channels)
            };
            let weights = taps * rows * (length + padding);
            let source = (tile.window_places(self, forward) + 1) * (chunk + padding);
            sums.max((weights + source) * self.element())
        };
        let mut tile = Tile::of_places(self, places);
        loop {
            for chunk in [64, 32, 16] {
                let shared_bytes = bytes(&tile, chunk);
                if chunk / 2 < self.source[0] && shared_bytes <= LIMIT {
                    return Tile {
                        chunk,
                        shared_bytes,
                        ..tile
                    };
                }
            }
            tile = tile.smaller();
        }
    }

    /// Channels of both maps that a block of `kernels/weight_gradient.cuh` takes.
    pub(super) fn gradient_channels(&self) -> usize {
        self.target[0].max(self.source[0]).min(32)
    }

    /// The tile that such a block takes at a time.
    pub(super) fn gradient_tile(&self) -> Tile {
        let channels = self.gradient_channels();
        let pitch = (channels + 16 / self.element()) * self.element();
        // 256 threads have 8 sums each for the bias, and 8 warps have 16 by 16 for every tap at the end.
        let of_bias = 256 * 8 * 4;
        let sums = 8 * self.kernel * self.kernel * 16 * 16 * 4;
        let bytes = |tile: &Tile| {
            let places = tile.places().next_multiple_of(16);
            of_bias + sums.max(places * (4 + pitch) + tile.window_places(self, true) * pitch)
        };
        let mut tile = Tile::of_places(self, 256);
        while bytes(&tile) > LIMIT {
            tile = tile.smaller();
        }
        Tile {
            chunk: channels,
            shared_bytes: bytes(&tile),
            ..tile
        }
    }

    /// Blocks in x, y and z of the weights' gradient: parts of the places, and of the channels of target and source.
    pub(super) fn gradient_grid(&self) -> [usize; 3] {
        // Two blocks for each multiprocessor of a large GPU.
        const BLOCKS: usize = 256;
        let channels = self.gradient_channels();
        let [to, from] = [self.target[0], self.source[0]].map(|all| all.div_ceil(channels));
        let parts = (BLOCKS / (to * from)).max(1);
        [self.gradient_tile().count(self).min(parts), to, from]
    }

    /// Whether the kernels find their tiles: they divide by a multiplication, which is exact where the product of the two is below 2³¹.
    pub(super) fn finds(&self, tile: &Tile) -> bool {
        let [down, across] = tile.tiles(self);
        tile.count(self) * down.max(across) < 1 << 31
    }

    /// The sizes, as the kernels take them.
    pub(super) fn arguments(&self, tile: &Tile, forward: bool) -> [Argument; 21] {
        let [source_channels, source_height, source_width] = self.source;
        let [target_channels, target_height, target_width] = self.target;
        let [window_rows, window_columns] = tile.window(self, forward);
        let [down, across] = tile.tiles(self);
        // For `quotient` in the kernels.
        let per = |divisor: usize| (1usize << 31).div_ceil(divisor);
        let sizes = [
            self.images,
            source_height,
            source_width,
            source_channels,
            target_height,
            target_width,
            target_channels,
            self.stride,
            self.padding,
            tile.images,
            tile.rows,
            tile.columns,
            down,
            across,
            tile.chunk,
            per(tile.columns),
            per(tile.rows * tile.columns),
            per(window_columns),
            per(window_rows * window_columns),
            per(across),
            per(down),
        ];
        sizes.map(|size| (size as i32).into())
    }
}
