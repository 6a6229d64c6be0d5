//! Compiles the CUDA kernels: with nvcc for the feature `cuda`, with the C++ compiler of this machine for `emulation`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rustc-check-cfg=cfg(emulation)");
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        compile_for_gpus();
    }
    #[cfg(feature = "emulation")]
    compile_for_this_machine();
}

/// One file for all GPUs: machine code for Hopper, and for what came before it or comes after, code that the
/// driver translates when it is loaded.
fn compile_for_gpus() {
    println!("cargo:rerun-if-env-changed=NVCC");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("kernels.fatbin");
    let nvcc = nvcc();
    link_runtime_statically(&nvcc);
    let status = Command::new(&nvcc)
        .args(["-fatbin", "-O3", "-std=c++17"])
        .args(["-gencode", "arch=compute_90,code=[sm_90,compute_90]"])
        .args(["-gencode", "arch=compute_80,code=compute_80"])
        .args([
            "-o".as_ref(),
            out.as_os_str(),
            Path::new("kernels/kernels.cu").as_os_str(),
        ])
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => stop(&format!(
            "{} failed on kernels/kernels.cu ({status})",
            nvcc.display()
        )),
        Err(error) => stop(&format!(
            "{} could not be started ({error}): the feature `cuda` needs CUDA's compiler, version 12 or later; \
             set NVCC to its path or CUDA_HOME to the toolkit, or build without the feature",
            nvcc.display()
        )),
    }
}

/// Candle links a few kernels to CUDA's runtime, as a library that has to be there when the program starts. Where the toolkit has
/// it as an archive too, the linker finds that first, and needs no library.
fn link_runtime_statically(nvcc: &Path) {
    let searched = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&searched)
        .map(|folder| folder.join(nvcc))
        .find_map(|program| program.canonicalize().ok());
    let Some(toolkit) = found
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent)
    else {
        return;
    };
    let folders = [
        "lib64",
        "lib",
        "targets/x86_64-linux/lib",
        "lib/x86_64-linux-gnu",
    ];
    let folders = folders.map(|folder| toolkit.join(folder));
    if let Some(folder) = folders
        .iter()
        .find(|folder| folder.join("libcudart_static.a").exists())
    {
        println!("cargo:rustc-link-search=native={}", folder.display());
        println!("cargo:rustc-link-lib=static:-bundle=cudart_static");
    }
}

fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    match env::var_os("CUDA_HOME") {
        Some(home) => Path::new(&home).join("bin/nvcc"),
        None => "nvcc".into(),
    }
}

fn stop(message: &str) -> ! {
    println!("cargo:error={message}");
    std::process::exit(1)
}

/// Without a C++ compiler the crate compiles all the same, and says at run time that nothing can be emulated.
#[cfg(feature = "emulation")]
fn compile_for_this_machine() {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        // As on GPUs, numbers are read and written in words of other types.
        .flag_if_supported("-fno-strict-aliasing")
        // A check of jumps that takes a jump to another stack for a mistake.
        .flag("-U_FORTIFY_SOURCE");
    if !build.is_flag_supported("-std=c++17").unwrap_or(false) {
        println!(
            "cargo:warning=the CUDA kernels cannot be emulated: no compiler of C++17 was found"
        );
        return;
    }
    let compiled = build
        .clone()
        // Without the library of that name: `kernels/accesses.cpp` is called before every access to memory. Clang leaves
        // out those of more than 16 bytes, and what it makes a call of by itself.
        .flag("-fsanitize=thread")
        .flag("-fno-builtin")
        .flag_if_supported("-fno-vectorize")
        .flag_if_supported("-fno-slp-vectorize")
        .file("kernels/kernels.cpp")
        .try_compile_intermediates()
        .and_then(|kernels| {
            build
                .objects(kernels)
                .files(
                    ["accesses", "emulation", "matrix", "races"]
                        .map(|name| format!("kernels/{name}.cpp")),
                )
                .try_compile("emulation")
        });
    match compiled {
        Ok(()) => println!("cargo:rustc-cfg=emulation"),
        Err(error) => stop(&format!(
            "the emulation of the kernels was not compiled: {error}"
        )),
    }
}
