//! The interpreter by itself, on kernels written by hand.

use crate::gpu::{Buffer, Counts, Gpu};

const THREADS: usize = 64;

/// A kernel in which `%t` is the number of the thread, `%result` what it gives and `%out` where that goes; `%out_of_all` is where
/// the memory of all begins, 64 numbers of 4 bytes.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.0
.target sm_80
.address_size 64
.extern .shared .align 16 .b8 shared[];
.visible .entry test(
    .param .u64 test_param_0
)
.maxntid 64, 1, 1
{{
    .reg .pred %p<9>;
    .reg .b32 %r<99>;
    ld.param.u64 %out_of_all, [test_param_0];
    cvta.to.global.u64 %out_of_all, %out_of_all;
    mov.u32 %t, %tid.x;
    mul.wide.u32 %out, %t, 4;
    add.s64 %out, %out_of_all, %out;
{body}
    st.global.u32 [%out], %result;
    ret;
}}
"
    )
}

/// What each thread gives, and what was counted; or why it failed.
fn run(body: &str) -> Result<(Vec<u32>, Counts), String> {
    let gpu = Gpu::interpreted(&kernel(body)).map_err(|error| error.to_string())?;
    let numbers = Buffer::zeros(&gpu, THREADS).expect("there is memory");
    let numbers: Buffer<f32> = numbers;
    let block = [THREADS as u32, 1, 1];
    // SAFETY: the interpreter checks every access.
    let launched = unsafe { gpu.launch("test".into(), [1; 3], block, 4096, [(&numbers).into()]) };
    launched.map_err(|error| error.to_string())?;
    let numbers = numbers.to_vec().expect("it was launched");
    let (_, counts) = gpu.counts()[0];
    Ok((numbers.into_iter().map(f32::to_bits).collect(), counts))
}

/// What each thread gives.
fn results(body: &str) -> Vec<u32> {
    run(body).expect("it is a sound kernel").0
}

/// What all threads give.
fn result(body: &str) -> u32 {
    let results = results(body);
    assert!(results.iter().all(|&result| result == results[0]));
    results[0]
}

/// The counts of `body` alone.
fn counts(body: &str) -> Counts {
    let of = |body: &str| run(body).expect("it is a sound kernel").1;
    of(body) - of("mov.u32 %result, 0;")
}

fn reason(body: &str) -> String {
    run(body).expect_err("it is not a sound kernel")
}

#[test]
fn threads_part_and_meet_again() {
    // Thread t goes round t times, and every other one leaves before that; then all exchange what they have.
    let found = results(
        "mov.u32 %result, 100;
        and.b32 %odd, %t, 1;
        setp.eq.s32 %p1, %odd, 1;
        mov.u32 %left, %t;
        @%p1 bra $meet;
        mov.u32 %result, 0;
$again:
        setp.eq.s32 %p2, %left, 0;
        @%p2 bra $meet;
        add.s32 %result, %result, 3;
        sub.s32 %left, %left, 1;
        bra.uni $again;
$meet:
        shfl.sync.bfly.b32 %result|%p3, %result, 1, 31, -1;
        @!%p3 add.s32 %result, %result, 1000;",
    );
    for (thread, found) in found.into_iter().enumerate() {
        let expected = if thread % 2 == 0 {
            100
        } else {
            3 * (thread - 1)
        };
        assert_eq!(found as usize, expected, "thread {thread}");
    }
}

#[test]
fn a_barrier_waits_for_all_that_have_not_ended() {
    let found = results(
        "mov.u32 %base, shared;
        mov.u32 %result, 7;
        setp.eq.s32 %p1, %t, 5;
        @%p1 st.global.u32 [%out], %result;
        @%p1 ret;
        shl.b32 %place, %t, 2;
        add.s32 %place, %place, %base;
        st.shared.u32 [%place], %t;
        bar.sync 0;
        xor.b32 %other, %place, 128;
        ld.shared.u32 %result, [%other];",
    );
    for (thread, found) in found.into_iter().enumerate() {
        match thread {
            5 => assert_eq!(found, 7),
            // Nothing was written there.
            37 => assert_eq!(found, u32::MAX),
            _ => assert_eq!(found as usize, thread ^ 32),
        }
    }
}

#[test]
fn numbers_are_rounded_and_compared_as_the_manual_says() {
    let bits = |body: &str| result(body);
    // NaN goes through one and not through the other.
    assert!(f32::from_bits(bits("max.NaN.f32 %result, 0f7FC00000, 0f00000000;")).is_nan());
    assert_eq!(
        bits("max.f32 %result, 0f7FC00000, 0f3F800000;"),
        1f32.to_bits()
    );
    let compared = |operator: &str| {
        bits(&format!(
            "setp.{operator}.f32 %p1, 0f7FC00000, 0f00000000; selp.u32 %result, 1, 0, %p1;"
        ))
    };
    assert_eq!(["ge", "ne", "geu", "neu"].map(compared), [0, 0, 1, 1]);
    // 1 + 2⁻⁸ is between two numbers of 8 bits, and goes to the even one; the first is the upper half.
    let pair = bits("cvt.rn.bf16x2.f32 %result, 0f3F808000, 0fC0000000;");
    assert_eq!(pair, 0x3f80_c000);
    // One rounding: 1 − (1 + 2⁻¹²)² in f32 would be −2⁻¹¹ with two.
    let fused = bits("fma.rn.f32 %result, 0f3F800800, 0fBF800800, 0f3F800000;");
    assert_eq!(f32::from_bits(fused), -(2f32.powi(-11) + 2f32.powi(-24)));
    assert_eq!(
        bits("cvt.rn.f32.f64 %result, 0d3FF0000010000000;"),
        1f32.to_bits()
    );
}

#[test]
fn bits_are_moved_as_the_manual_says() {
    assert_eq!(result("shl.b32 %result, 1, 32;"), 0);
    assert_eq!(result("shr.s32 %result, -8, 40;"), u32::MAX);
    assert_eq!(result("bfi.b32 %result, 255, 0, 4, 3;"), 0b111_0000);
    assert_eq!(result("mul.hi.u32 %result, -1, -1;"), u32::MAX - 1);
    assert_eq!(result("div.s32 %result, -7, 2;") as i32, -3);
    assert_eq!(
        result("mul.wide.s32 %wide, -1, 5; mov.b64 {%result, %upper}, %wide;") as i32,
        -5
    );
    assert_eq!(
        result("mul.wide.s32 %wide, -1, 5; mov.b64 {%lower, %result}, %wide;"),
        u32::MAX
    );
    assert_eq!(
        result("mov.b64 %wide, {1, 2}; shr.u64 %wide, %wide, 31; cvt.u32.u64 %result, %wide;"),
        4
    );
}

/// Thread t of a warp has, of A, rows t/4 and t/4 + 8, of B column t/4, and of the result the rows of A and columns 2 (t % 4)
/// and the next, each as pairs of two numbers side by side (*Matrix Fragments for mma.m16n8k16*).
#[test]
fn a_product_of_matrices_is_that_of_its_rows_and_columns() {
    let a = |row: usize, column: usize| (row * 3 + column) as f32 % 11. - 5.;
    let b = |row: usize, column: usize| (row + column * 5) as f32 % 7. - 3.;
    // A pair of numbers that the threads make from a row and a column: (row · down + column · across) % modulus − minus.
    let number = |name: &str, row: &str, column: &str, rule: [usize; 4]| {
        let [down, across, modulus, minus] = rule;
        format!(
            "mul.lo.s32 %at, {row}, {down};
            mad.lo.s32 %at, {column}, {across}, %at;
            rem.u32 %at, %at, {modulus};
            sub.s32 %at, %at, {minus};
            cvt.rn.f32.s32 {name}, %at;\n"
        )
    };
    let mut body = String::from(
        "shr.u32 %group, %t, 2;
        and.b32 %group, %group, 7;
        and.b32 %within, %t, 3;
        shl.b32 %within, %within, 1;\n",
    );
    let pair = |to: String, row: [&str; 2], column: [&str; 2], rule| {
        format!(
            "{}{}cvt.rn.bf16x2.f32 {to}, %second, %first;\n",
            number("%first", row[0], column[0], rule),
            number("%second", row[1], column[1], rule)
        )
    };
    for register in 0..4 {
        body += &format!(
            "add.s32 %row, %group, {};
            add.s32 %column, %within, {};
            add.s32 %next, %column, 1;\n",
            8 * (register % 2),
            8 * (register / 2)
        );
        let rule = [3, 1, 11, 5];
        body += &pair(
            format!("%a{register}"),
            ["%row"; 2],
            ["%column", "%next"],
            rule,
        );
    }
    for register in 0..2 {
        body += &format!(
            "add.s32 %row, %within, {};
            add.s32 %next, %row, 1;\n",
            8 * register
        );
        let rule = [1, 5, 7, 3];
        body += &pair(
            format!("%b{register}"),
            ["%row", "%next"],
            ["%group"; 2],
            rule,
        );
    }
    body += "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%c0, %c1, %c2, %c3}, {%a0, %a1, %a2, %a3}, {%b0, %b1}, \
             {0f3F000000, 0f3F000000, 0f3F000000, 0f3F000000};\n";
    for register in 0..4 {
        let found = results(&format!("{body}mov.f32 %result, %c{register};"));
        for (thread, found) in found.into_iter().enumerate() {
            let thread = thread % 32;
            let (row, column) = (
                thread / 4 + 8 * (register / 2),
                thread % 4 * 2 + register % 2,
            );
            let expected: f32 = (0..16).map(|k| a(row, k) * b(k, column)).sum();
            assert_eq!(
                f32::from_bits(found),
                expected + 0.5,
                "row {row}, column {column}"
            );
        }
    }
}

#[test]
fn matrices_are_distributed_as_they_lie_or_transposed() {
    // Number i of shared memory is i, so that row r of all has 8 r and the seven behind it.
    let load = |layout: &str, register: usize| {
        results(&format!(
            "mov.u32 %base, shared;
            mul.lo.s32 %place, %t, 8;
            add.s32 %place, %place, %base;
            mul.lo.s32 %number, %t, 4;
            add.s32 %next, %number, 1;
            mov.b32 %first, {{%number, %next}};
            add.s32 %number, %next, 1;
            add.s32 %next, %number, 1;
            mov.b32 %second, {{%number, %next}};
            st.shared.v2.u32 [%place], {{%first, %second}};
            bar.sync 0;
            and.b32 %place, %t, 31;
            mul.lo.s32 %place, %place, 16;
            add.s32 %place, %place, %base;
            ldmatrix.sync.aligned.m8n8.x4{layout}.shared.b16 {{%m0, %m1, %m2, %m3}}, [%place];
            mov.u32 %result, %m{register};"
        ))
    };
    for register in 0..4 {
        let [plain, transposed] = ["", ".trans"].map(|layout| load(layout, register));
        for thread in 0..THREADS {
            let (group, within) = (thread % 32 / 4, thread % 4 * 2);
            let number = |row: usize, column: usize| (64 * register + 8 * row + column) as u32;
            let pair = |first: u32, second: u32| first | second << 16;
            assert_eq!(
                plain[thread],
                pair(number(group, within), number(group, within + 1))
            );
            assert_eq!(
                transposed[thread],
                pair(number(within, group), number(within + 1, group))
            );
        }
    }
}

#[test]
fn a_copy_is_there_when_it_was_waited_for() {
    let copied = |groups: usize, later: usize| {
        result(&format!(
            "mov.u32 %base, shared;
            mul.lo.s32 %place, %t, 16;
            add.s32 %place, %place, %base;
            and.b64 %from, %out_of_all, -16;
            cp.async.cg.shared.global [%place], [%from], 16;
            {}
            cp.async.wait_group {later};
            ld.shared.u32 %result, [%place];",
            "cp.async.commit_group;".repeat(groups)
        ))
    };
    // What lies there is zero, and shared memory all ones.
    assert_eq!(
        [copied(1, 0), copied(2, 1), copied(1, 1), copied(0, 0)],
        [0, 0, u32::MAX, u32::MAX]
    );
}

#[test]
fn sectors_and_banks_are_counted() {
    let global = |bytes: usize| {
        let body = format!(
            "mov.u32 %result, 0;
            and.b32 %place, %t, 7;
            mul.wide.u32 %from, %place, {bytes};
            add.s64 %from, %out_of_all, %from;
            ld.global.u32 %r1, [%from];"
        );
        counts(&body).sectors_read
    };
    // Two warps read: one place, 8 numbers side by side, and 8 that are 32 bytes apart.
    assert_eq!([0, 4, 32].map(global), [2, 2, 16]);
    let shared = |bytes: usize, apart: usize, vector: &str| {
        let body = format!(
            "mov.u32 %result, 0;
            mov.u32 %base, shared;
            and.b32 %place, %t, 31;
            mul.lo.s32 %place, %place, {apart};
            add.s32 %place, %place, %base;
            ld.shared{vector};"
        );
        let found = counts(&body);
        let at_least = if apart == 0 { 1 } else { bytes as u64 / 4 };
        assert_eq!(found.shared_turns_at_least, 2 * at_least);
        found.shared_turns
    };
    let one = |apart| shared(4, apart, ".u32 %r1, [%place]");
    assert_eq!([0, 4, 8, 16, 128, 12].map(one), [2, 2, 4, 8, 64, 2]);
    let four = |apart| shared(16, apart, ".v4.u32 {%r1, %r2, %r3, %r4}, [%place]");
    assert_eq!([16, 32, 48].map(four), [8, 16, 8]);
}

#[test]
fn instructions_that_only_name_are_not_counted() {
    let found = counts("mov.u32 %r1, 5; add.s32 %r2, %r1, 1; mov.u32 %result, %r2;");
    assert_eq!(found.instructions, 2);
}

#[test]
fn what_is_not_sound_is_named() {
    for (body, expected) in [
        (
            "ld.global.u32 %result, [%out+256];",
            "the device has no 4 bytes at",
        ),
        (
            "ld.global.u32 %result, [%out+-4];",
            "the device has no 4 bytes at",
        ),
        (
            "ld.global.u64 %result, [%out];",
            "no multiple of the 8 bytes",
        ),
        (
            "mov.u32 %r1, shared; ld.shared.u32 %result, [%r1+4096];",
            "none of the 4 at 4096",
        ),
        (
            "mov.u32 %r1, shared; ld.shared.v2.u32 {%result, %r2}, [%r1+4];",
            "place 4 of shared memory is no multiple of the 8 bytes",
        ),
        (
            "setp.lt.s32 %p1, %t, 3; @%p1 shfl.sync.bfly.b32 %result, %t, 1, 31, -1;",
            "`@%p1 shfl.sync.bfly.b32 %result, %t, 1, 31, -1`: thread 0 names the threads 0xffffffff, and 0x7 carry it out",
        ),
        (
            "setp.lt.s32 %p1, %t, 3; @%p1 ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1, %r2, %r3, %r4}, [%t];",
            "only 0x7 carry it out",
        ),
        (
            "popc.b32 %result, %t;",
            "line 17: `popc.b32 %result, %t`: the instruction is not known",
        ),
        ("bra $nowhere;", "there is no label `$nowhere`"),
        (
            "mov.u32 %result, elsewhere;",
            "the operand `elsewhere` is not known",
        ),
        ("ld.local.u32 %result, [%t];", "memory `local` is not known"),
        ("mov.u32 5, %t;", "`5` is nothing that can be written"),
        (
            "mov.u32 %tid.x, %t;",
            "`%tid.x` is nothing that can be written",
        ),
        (
            "ld.global.v4.f64 {%r1, %r2, %r3, %r4}, [%out];",
            "32 bytes are not read",
        ),
        ("mov.b32 {%r1, %r2, %r3}, %t;", "`b32` has no 3 parts"),
        (
            "cp.async.wait_group 18446744073709551615; ld.shared.u32 %result, [-4];",
            "none of the 4 at 4294967292",
        ),
    ] {
        let found = reason(body);
        assert!(found.contains(expected), "{body}: {found}");
    }
}

#[test]
fn a_file_that_is_cut_is_refused() {
    let whole = kernel("mov.u32 %result, 0;");
    let cut = &whole[..whole.len() - 20];
    let error = Gpu::interpreted(cut)
        .expect_err("it has no end")
        .to_string();
    assert!(
        error.contains("kernel test, line 18: the file ends within"),
        "{error}"
    );
    let error = Gpu::interpreted("a text")
        .expect_err("it is none")
        .to_string();
    assert!(error.contains("it holds no kernel"), "{error}");
}
