//! CUDA's libraries. Candle has them linked; here their functions are defined as ones that are looked for [late](crate::late), so that a program that could
//! compute on a GPU starts where there is none.

use cudarc::driver::sys::CUDA_VERSION;

use crate::error::{Error, Result};
use crate::late::{Library, late, status};

/// The statuses are those of "no device" and "not initialised".
static DRIVER: Library = Library::new("libcuda.so.1", status::<100>);
static CUBLAS: Library = Library::new(CUBLAS_NAME, status::<1>);
static CURAND: Library = Library::new("libcurand.so.10", status::<101>);
static CUDNN: Library = Library::new("libcudnn.so.9", status::<1001>);

/// Of the version of CUDA that this was compiled with.
const CUBLAS_NAME: &str = if CUDA_VERSION < 13000 {
    "libcublas.so.12"
} else {
    "libcublas.so.13"
};

// All that cudarc's safe functions call, and what is called here. What is missing is linked in the usual way.
late! {
    DRIVER:
        cuCtxCreate_v3 cuCtxCreate_v4 cuCtxDestroy_v2 cuCtxGetCacheConfig cuCtxGetCurrent cuCtxGetLimit cuCtxGetStreamPriorityRange
        cuCtxSetCacheConfig cuCtxSetCurrent cuCtxSetFlags cuCtxSetLimit cuCtxSynchronize cuDestroyExternalMemory cuDeviceGet cuDeviceGetAttribute
        cuDeviceGetCount cuDeviceGetDefaultMemPool cuDeviceGetMemPool cuDeviceGetName cuDeviceGetUuid cuDeviceGetUuid_v2 cuDevicePrimaryCtxRelease_v2
        cuDevicePrimaryCtxRetain cuDeviceSetMemPool cuDeviceTotalMem_v2 cuEventCreate cuEventDestroy_v2 cuEventElapsedTime cuEventElapsedTime_v2
        cuEventQuery cuEventRecord cuEventRecordWithFlags cuEventSynchronize cuExternalMemoryGetMappedBuffer cuFuncGetAttribute cuFuncSetAttribute cuFuncSetCacheConfig
        cuGetErrorName cuGetErrorString cuGraphDestroy cuGraphExecDestroy cuGraphInstantiateWithFlags cuGraphLaunch cuGraphUpload
        cuImportExternalMemory cuInit cuLaunchCooperativeKernel cuLaunchHostFunc cuLaunchKernel cuMemAdvise_v2 cuMemAllocAsync cuMemAllocFromPoolAsync
        cuMemAllocManaged cuMemAlloc_v2 cuMemFreeAsync cuMemFreeHost cuMemFree_v2 cuMemGetInfo_v2 cuMemHostAlloc cuMemPoolCreate cuMemPoolDestroy
        cuMemPoolGetAttribute cuMemPoolSetAttribute cuMemPoolTrimTo cuMemPrefetchAsync_v2 cuMemcpyDtoDAsync_v2 cuMemcpyDtoD_v2 cuMemcpyDtoHAsync_v2
        cuMemcpyDtoH_v2 cuMemcpyHtoDAsync_v2 cuMemcpyHtoD_v2 cuMemcpyPeerAsync cuMemsetD8Async cuMemsetD8_v2 cuModuleGetFunction cuModuleGetGlobal_v2
        cuModuleLoad cuModuleLoadData cuModuleUnload cuOccupancyAvailableDynamicSMemPerBlock cuOccupancyMaxActiveBlocksPerMultiprocessor
        cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags cuOccupancyMaxActiveClusters cuOccupancyMaxPotentialBlockSize
        cuOccupancyMaxPotentialBlockSizeWithFlags cuOccupancyMaxPotentialClusterSize cuProfilerStart cuProfilerStop cuStreamAttachMemAsync
        cuStreamBeginCapture_v2 cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy_v2 cuStreamEndCapture cuStreamIsCapturing
        cuStreamSynchronize cuStreamWaitEvent;
    CUBLAS:
        cublasCreate_v2 cublasDasum_v2 cublasDestroy_v2 cublasDgemmStridedBatched cublasDgemm_v2 cublasDgemv_v2 cublasGemmEx
        cublasGemmGroupedBatchedEx cublasGemmStridedBatchedEx cublasGetPointerMode_v2 cublasSasum_v2 cublasSetPointerMode_v2 cublasSetStream_v2
        cublasSgemmStridedBatched cublasSgemm_v2 cublasSgemv_v2;
    CURAND:
        curandCreateGenerator curandDestroyGenerator curandGenerate curandGenerateLogNormal curandGenerateLogNormalDouble curandGenerateLongLong
        curandGenerateNormal curandGenerateNormalDouble curandGeneratePoisson curandGenerateUniform curandGenerateUniformDouble
        curandSetGeneratorOffset curandSetPseudoRandomGeneratorSeed curandSetStream;
    CUDNN:
        cudnnActivationForward cudnnAdvInferVersionCheck cudnnAdvTrainVersionCheck cudnnAdvVersionCheck cudnnCnnInferVersionCheck
        cudnnCnnTrainVersionCheck cudnnCnnVersionCheck cudnnConvolutionBackwardData cudnnConvolutionBackwardFilter
        cudnnConvolutionBiasActivationForward cudnnConvolutionForward cudnnCreate cudnnCreateActivationDescriptor cudnnCreateConvolutionDescriptor
        cudnnCreateFilterDescriptor cudnnCreatePoolingDescriptor cudnnCreateReduceTensorDescriptor cudnnCreateTensorDescriptor cudnnDestroy
        cudnnDestroyConvolutionDescriptor cudnnDestroyFilterDescriptor cudnnDestroyReduceTensorDescriptor cudnnDestroyTensorDescriptor
        cudnnGetConvolutionBackwardDataAlgorithm_v7 cudnnGetConvolutionBackwardDataWorkspaceSize cudnnGetConvolutionBackwardFilterAlgorithm_v7
        cudnnGetConvolutionBackwardFilterWorkspaceSize cudnnGetConvolutionForwardAlgorithm_v7 cudnnGetConvolutionForwardWorkspaceSize
        cudnnGetReductionIndicesSize cudnnGetReductionWorkspaceSize cudnnOpsInferVersionCheck cudnnOpsTrainVersionCheck cudnnOpsVersionCheck
        cudnnPoolingForward cudnnReduceTensor cudnnSetActivationDescriptor cudnnSetConvolution2dDescriptor cudnnSetConvolutionGroupCount
        cudnnSetConvolutionMathType cudnnSetConvolutionNdDescriptor cudnnSetFilter4dDescriptor cudnnSetFilterNdDescriptor cudnnSetPoolingNdDescriptor
        cudnnSetReduceTensorDescriptor cudnnSetStream cudnnSetTensor4dDescriptor cudnnSetTensor4dDescriptorEx cudnnSetTensorNdDescriptor
        cudnnSoftmaxForward;
}

/// Loads what every device needs.
///
/// # Errors
/// [`Error::Gpu`] with the name of the first that is not there.
pub(super) fn load() -> Result<()> {
    for library in [&DRIVER, &CUBLAS, &CURAND] {
        library.load().map_err(|reason| Error::Gpu {
            action: "CUDA: loading its libraries".into(),
            reason,
        })?;
    }
    Ok(())
}
