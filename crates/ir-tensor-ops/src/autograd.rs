//! Records a result in Candle's graph together with its backward rule.

use std::sync::{Mutex, PoisonError};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Shape, Storage, Tensor,
};

use crate::error::Result;
use crate::input::Output;

/// A computed result, waiting to be put into the graph.
struct Recorded<F> {
    name: &'static str,
    output: Mutex<Option<Output>>,
    backward: F,
}

impl<F> Recorded<F> {
    /// Candle calls an operation's forward exactly once, when the node is made.
    fn take(&self) -> candle_core::Result<Output> {
        let output = self
            .output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        output.ok_or_else(|| {
            candle_core::Error::msg(format!("{}: the forward pass ran twice", self.name))
        })
    }

    /// The result, on the CPU as the arguments are.
    fn take_cpu(&self) -> candle_core::Result<(CpuStorage, Shape)> {
        match self.take()? {
            Output {
                storage: Storage::Cpu(storage),
                shape,
            } => Ok((storage, shape)),
            _ => Err(self.elsewhere()),
        }
    }

    /// The result, on a GPU as the arguments are.
    fn take_cuda(&self) -> candle_core::Result<(CudaStorage, Shape)> {
        match self.take()? {
            Output {
                storage: Storage::Cuda(storage),
                shape,
            } => Ok((storage, shape)),
            _ => Err(self.elsewhere()),
        }
    }

    fn elsewhere(&self) -> candle_core::Error {
        candle_core::Error::msg(format!("{}: the arguments are on two devices", self.name))
    }
}

/// The result `output` of an operation on N = 1, 2 or 3 tensors, with a backward rule:
/// `backward(arguments, gradient of the output)` gives a gradient per argument, or `None` for
/// an argument that wants none (see [`wanted`]).
pub(crate) fn record<const N: usize, F>(
    name: &'static str,
    arguments: [&Tensor; N],
    output: Output,
    backward: F,
) -> Result<Tensor>
where
    F: Fn([&Tensor; N], &Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static,
    Node<F, N>: Apply<N>,
{
    if !arguments.iter().any(|argument| wanted(argument)) {
        return output.tensor();
    }
    let node = Node(Recorded {
        name,
        output: Mutex::new(Some(output)),
        backward,
    });
    Ok(node.apply(arguments)?)
}

/// Whether the gradient of this tensor is asked for.
pub(crate) fn wanted(tensor: &Tensor) -> bool {
    tensor.track_op()
}

/// A [`Recorded`] of N arguments: Candle has one trait for each N.
pub(crate) struct Node<F, const N: usize>(Recorded<F>);

/// Puts a node of N arguments into the graph.
pub(crate) trait Apply<const N: usize> {
    fn apply(self, arguments: [&Tensor; N]) -> candle_core::Result<Tensor>;
}

impl<F> Apply<1> for Node<F, 1>
where
    F: Fn([&Tensor; 1], &Tensor) -> Result<[Option<Tensor>; 1]> + Send + Sync + 'static,
{
    fn apply(self, [x]: [&Tensor; 1]) -> candle_core::Result<Tensor> {
        x.apply_op1(self)
    }
}

impl<F> Apply<2> for Node<F, 2>
where
    F: Fn([&Tensor; 2], &Tensor) -> Result<[Option<Tensor>; 2]> + Send + Sync + 'static,
{
    fn apply(self, [x, y]: [&Tensor; 2]) -> candle_core::Result<Tensor> {
        x.apply_op2(y, self)
    }
}

impl<F> Apply<3> for Node<F, 3>
where
    F: Fn([&Tensor; 3], &Tensor) -> Result<[Option<Tensor>; 3]> + Send + Sync + 'static,
{
    fn apply(self, [x, y, z]: [&Tensor; 3]) -> candle_core::Result<Tensor> {
        x.apply_op3(y, z, self)
    }
}

impl<F> CustomOp1 for Node<F, 1>
where
    F: Fn([&Tensor; 1], &Tensor) -> Result<[Option<Tensor>; 1]>,
{
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.0.take_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        self.0.take_cuda()
    }

    fn bwd(
        &self,
        x: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        let [x] = (self.0.backward)([x], gradient)?;
        Ok(x)
    }
}

impl<F> CustomOp2 for Node<F, 2>
where
    F: Fn([&Tensor; 2], &Tensor) -> Result<[Option<Tensor>; 2]>,
{
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.0.take_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        self.0.take_cuda()
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, y] = (self.0.backward)([x, y], gradient)?;
        Ok((x, y))
    }
}

impl<F> CustomOp3 for Node<F, 3>
where
    F: Fn([&Tensor; 3], &Tensor) -> Result<[Option<Tensor>; 3]>,
{
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.0.take_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        self.0.take_cuda()
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        z: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x, y, z] = (self.0.backward)([x, y, z], gradient)?;
        Ok((x, y, z))
    }
}
