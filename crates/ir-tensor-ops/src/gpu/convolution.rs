//! Convolutions on a GPU, with the batch norm and the ReLU in front of them, and their gradients.

use super::backend::Argument;
use super::norm::{at_least, padded};
use super::tile::Product;
use super::weights::{self, Weights};
use super::{Buffer, Gpu, Map, NormState, Precision};
use crate::convolution::Convolution as Shape;
use crate::error::Result;
use crate::input;

/// A convolution of maps of one size: y = Σ w · relu(norm(x)) + bias, with K = 1 or 3, stride 1 or 2, and zeros
/// around relu(norm(x)).
///
/// It holds sizes alone. Its operations write into what they are given and take no memory, so that they can be
/// recorded ([`Gpu::record`]). The same input gives the same bits every time.
///
/// ```
/// # #[cfg(feature = "emulation")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::gpu::{Buffer, Convolution, Gpu, Map, Precision, Weights};
///
/// let gpu = Gpu::emulated()?;
/// let x = Tensor::ones((1, 2, 3, 3), candle_core::DType::F32, &Device::Cpu)?;
/// let w = Tensor::ones((1, 2, 3, 3), candle_core::DType::F32, &Device::Cpu)?;
/// let x = Map::from_tensor(&gpu, &x, Precision::Bf16)?;
/// let w = Weights::from_tensor(&gpu, &w, Precision::Bf16)?;
/// let bias = Buffer::zeros(&gpu, 16)?;
///
/// let convolution = Convolution::new(x.dims(), 1, 3, 1, 1, Precision::Bf16)?;
/// let y = Map::new(&gpu, convolution.output_dims(), Precision::Bf16)?;
/// convolution.forward(&x, None, &w, &bias, None, &y, None)?;
/// let y = y.to_tensor()?.flatten_all()?.to_vec1::<f32>()?;
/// assert_eq!(y, [8., 12., 8., 12., 18., 12., 8., 12., 8.]);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "emulation"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone)]
pub struct Convolution {
    shape: Shape,
    precision: Precision,
}

impl Convolution {
    /// Of maps `[N, C, H, W]` with `outputs` kernels of `kernel` by `kernel`.
    ///
    /// # Errors
    /// `Setting` for a kernel that is not 1 or 3, a stride that is not 1 or 2, a padding of `kernel` or more; `Shape`
    /// for dimensions that are 0, too small for the kernel, of 2³¹ numbers or more, or with
    /// millions of places in a row.
    pub fn new(
        x_dims: [usize; 4],
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        precision: Precision,
    ) -> Result<Self> {
        const OP: &str = "Convolution::new";
        let x = input::sizes(OP, "x_dims", &x_dims, "[N, C, H, W]")?;
        let [outputs] = input::sizes(OP, "outputs", &[outputs], "[O]")?;
        let shape = Shape::of_sizes(OP, x, outputs, kernel, stride, padding)?;
        let convolution = Self { shape, precision };
        let [outputs, inputs, ..] = convolution.weight_dims();
        let weight = [padded(outputs), inputs, kernel, kernel];
        for [images, channels, height, width] in [x, convolution.output_dims(), weight] {
            let dims = [images, padded(channels), height, width];
            let size = dims
                .iter()
                .try_fold(1usize, |size, &dim| size.checked_mul(dim));
            if size.is_none_or(|size| size >= 1 << 31) {
                let expected = "fewer than 2³¹ numbers".into();
                return Err(input::wrong_sizes(OP, "x_dims", &x_dims, expected));
            }
        }
        let (product, back) = (convolution.product(), convolution.product_back());
        let tiles = [
            (product, product.tile(true)),
            (back, back.tile(false)),
            (product, product.gradient_tile()),
        ];
        if !tiles.iter().all(|(product, tile)| product.finds(tile)) {
            let expected = "a shorter height or width, of fewer tiles".into();
            return Err(input::wrong_sizes(OP, "x_dims", &x_dims, expected));
        }
        Ok(convolution)
    }

    /// N, C, H and W of y.
    pub fn output_dims(&self) -> [usize; 4] {
        self.shape.output_shape()
    }

    /// O, I, K and K.
    pub fn weight_dims(&self) -> [usize; 4] {
        self.shape.weight_shape()
    }

    /// Numbers of the weights on the device.
    pub fn weight_len(&self) -> usize {
        weights::length(self.weight_dims())
    }

    /// Pieces of y of which [`Convolution::forward`] takes the statistics.
    pub fn statistics_pieces(&self) -> usize {
        let product = self.product();
        product.tile(true).count(&product)
    }

    /// Pieces of x of which [`Convolution::input_gradient`] takes the sums.
    pub fn gradient_pieces(&self) -> usize {
        let product = self.product_back();
        product.tile(false).count(&product)
    }

    /// Room that [`Convolution::weight_gradient`] needs.
    pub fn partial_weight_len(&self) -> usize {
        let product = self.product();
        product.gradient_grid()[0] * (self.weight_len() + product.target[0])
    }

    /// y = conv(relu(norm(x))) + bias + residual, and the moments of y: `statistics` `[pieces][3][channels]` become
    /// count, mean and Σ (y − mean)² of pieces of y, as [`NormState::of_moments`] takes them. Without a norm, the
    /// convolution is of x itself. `y` may be `residual`.
    ///
    /// # Errors
    /// `Shape` for maps and buffers of other sizes or precisions.
    pub fn forward(
        &self,
        x: &Map,
        norm: Option<&NormState>,
        weight: &Weights,
        bias: &Buffer<f32>,
        residual: Option<&Map>,
        y: &Map,
        statistics: Option<&Buffer<f32>>,
    ) -> Result<()> {
        const OP: &str = "Convolution::forward";
        let product = self.product();
        let channels = product.target[0];
        self.check_x(OP, "x", x, norm)?;
        self.check_y(OP, "y", y)?;
        self.check_weight(OP, weight)?;
        bias.check_length(OP, "channels", channels)?;
        if let Some(residual) = residual {
            self.check_y(OP, "residual", residual)?;
        }
        if let Some(statistics) = statistics {
            let pieces = self.statistics_pieces();
            at_least(OP, "statistics", statistics, pieces * 3 * channels)?;
        }
        let [mean, scale, shift] = norm_arguments(norm);
        let arguments = [
            x.argument(),
            mean,
            scale,
            shift,
            weight.argument(),
            bias.into(),
            residual.map_or_else(Argument::null, Map::argument),
            y.argument(),
            statistics.into(),
        ];
        // SAFETY: maps, weights and buffers have the sizes that the kernel takes of them (checked above).
        unsafe { self.launch(x.gpu(), "convolution", &product, true, &arguments) }
    }

    /// The gradient of x from that of y. With `behind` = (x, norm, sums), dx is that in front of the ReLU instead,
    /// 0 where relu(norm(x)) is 0, and `sums` `[pieces][2][channels]` become Σ dx and Σ dx (x − mean) of pieces of
    /// x, as [`NormState::gradient`] takes them.
    ///
    /// # Errors
    /// As [`Convolution::forward`].
    pub fn input_gradient(
        &self,
        gradient: &Map,
        weight: &Weights,
        dx: &Map,
        behind: Option<(&Map, &NormState, &Buffer<f32>)>,
    ) -> Result<()> {
        const OP: &str = "Convolution::input_gradient";
        let product = self.product_back();
        self.check_y(OP, "gradient", gradient)?;
        self.check_weight(OP, weight)?;
        self.check_x(OP, "dx", dx, None)?;
        if let Some((x, norm, sums)) = behind {
            self.check_x(OP, "x", x, Some(norm))?;
            let length = self.gradient_pieces() * 2 * product.target[0];
            at_least(OP, "sums", sums, length)?;
        }
        let [mean, scale, shift] = norm_arguments(behind.map(|(_, norm, _)| norm));
        let arguments = [
            gradient.argument(),
            weight.argument(),
            dx.argument(),
            behind.map_or_else(Argument::null, |(x, ..)| x.argument()),
            mean,
            scale,
            shift,
            behind.map(|(.., sums)| sums).into(),
        ];
        // SAFETY: as in `forward`.
        unsafe {
            self.launch(
                gradient.gpu(),
                "input_gradient",
                &product,
                false,
                &arguments,
            )
        }
    }

    /// The gradients of the weights, `dw` as [`Weights`] lie, and of the bias, `db`, from x (through norm and ReLU, if
    /// there is a norm) and the gradient of y. With `add` they are added to what is there. `partials` is room for
    /// [`Convolution::partial_weight_len`] numbers.
    ///
    /// # Errors
    /// As [`Convolution::forward`].
    pub fn weight_gradient(
        &self,
        x: &Map,
        norm: Option<&NormState>,
        gradient: &Map,
        partials: &Buffer<f32>,
        dw: &Buffer<f32>,
        db: &Buffer<f32>,
        add: bool,
    ) -> Result<()> {
        const OP: &str = "Convolution::weight_gradient";
        let product = self.product();
        let (length, channels) = (self.weight_len(), product.target[0]);
        self.check_x(OP, "x", x, norm)?;
        self.check_y(OP, "gradient", gradient)?;
        at_least(OP, "partials", partials, self.partial_weight_len())?;
        dw.check_length(OP, "weights", length)?;
        db.check_length(OP, "channels", channels)?;

        let (grid, tile) = (product.gradient_grid(), product.gradient_tile());
        let kernel = format!(
            "weight_gradient_{}_{}_{}",
            product.kernel,
            product.gradient_channels(),
            self.precision.name()
        );
        let [mean, scale, shift] = norm_arguments(norm);
        let maps = [
            x.argument(),
            mean,
            scale,
            shift,
            gradient.argument(),
            partials.into(),
        ];
        let arguments = [&maps[..], &product.arguments(&tile, true)].concat();
        // SAFETY: the maps have the sizes of the product, and `partials` has room for one part for each block in x.
        unsafe {
            let grid = grid.map(|blocks| blocks as u32);
            let shared = tile.shared_bytes;
            x.gpu()
                .launch(kernel, grid, [256, 1, 1], shared, arguments)?;
        }

        // Threads that lie side by side, with four numbers each, and that share the parts: as in
        // `weight_gradient.cuh`.
        const COLUMNS: usize = 16;
        let lanes = grid[0].next_power_of_two().min(32);
        let arguments = [
            partials.into(),
            (grid[0] as i32).into(),
            (length as i32).into(),
            (channels as i32).into(),
            dw.into(),
            db.into(),
            i32::from(add).into(),
        ];
        let blocks = (length + channels).div_ceil(4 * COLUMNS) as u32;
        let threads = [COLUMNS as u32, lanes as u32, 1];
        // SAFETY: there are as many parts of length + channels numbers, and dw and db have room for one.
        unsafe {
            x.gpu()
                .launch("sum_parts".into(), [blocks, 1, 1], threads, 0, arguments)
        }
    }

    /// What going forward reads and writes.
    fn product(&self) -> Product {
        let [images, inputs, height, width] = self.shape.input_shape();
        let [_, outputs, out_height, out_width] = self.output_dims();
        Product {
            images,
            source: [padded(inputs), height, width],
            target: [padded(outputs), out_height, out_width],
            kernel: self.shape.kernel,
            stride: self.shape.stride,
            padding: self.shape.padding,
            precision: self.precision,
        }
    }

    /// What going back does.
    fn product_back(&self) -> Product {
        let forward = self.product();
        Product {
            source: forward.target,
            target: forward.source,
            ..forward
        }
    }

    /// Starts one of the kernels of `convolution.cuh`.
    ///
    /// # Safety
    /// As [`Gpu::launch`], for arguments in front of the sizes.
    unsafe fn launch(
        &self,
        gpu: &Gpu,
        kernel: &str,
        product: &Product,
        forward: bool,
        arguments: &[Argument],
    ) -> Result<()> {
        let (channels, tile) = (product.block_channels(), product.tile(forward));
        let kernel = format!(
            "{kernel}_{}_{channels}_{}",
            product.kernel,
            self.precision.name()
        );
        let grid = [tile.count(product), product.target[0].div_ceil(channels), 1];
        let arguments = [arguments, &product.arguments(&tile, forward)].concat();
        // SAFETY: the caller answers for the arguments; the sizes are those that the tile was made for.
        unsafe {
            gpu.launch(
                kernel,
                grid.map(|blocks| blocks as u32),
                [product.threads() as u32, 1, 1],
                tile.shared_bytes,
                arguments,
            )
        }
    }

    fn check_x(
        &self,
        op: &'static str,
        argument: &'static str,
        map: &Map,
        norm: Option<&NormState>,
    ) -> Result<()> {
        self.check_map(op, argument, map, self.shape.input_shape())?;
        if let Some(norm) = norm {
            let channels = norm.check(op, &[])?;
            if channels != map.padded_channels() {
                let expected = format!("[{}]", map.padded_channels());
                return Err(input::wrong_sizes(op, "norm", &[channels], expected));
            }
        }
        Ok(())
    }

    fn check_y(&self, op: &'static str, argument: &'static str, map: &Map) -> Result<()> {
        self.check_map(op, argument, map, self.output_dims())
    }

    fn check_map(
        &self,
        op: &'static str,
        argument: &'static str,
        map: &Map,
        dims: [usize; 4],
    ) -> Result<()> {
        if map.dims() == dims && map.precision() == self.precision {
            return Ok(());
        }
        let expected = format!("{dims:?} of {}", self.precision.name());
        Err(input::wrong_sizes(op, argument, &map.dims(), expected))
    }

    fn check_weight(&self, op: &'static str, weight: &Weights) -> Result<()> {
        if weight.len() == self.weight_len() && weight.precision() == self.precision {
            return Ok(());
        }
        let expected = format!("[{}] of {}", self.weight_len(), self.precision.name());
        Err(input::wrong_sizes(op, "weight", &[weight.len()], expected))
    }
}

/// The mean, the scale and the shift of a norm, or nothing.
fn norm_arguments(norm: Option<&NormState>) -> [Argument; 3] {
    match norm {
        Some(norm) => [&norm.mean, &norm.scale, &norm.shift].map(Argument::from),
        None => [Argument::null(), Argument::null(), Argument::null()],
    }
}
