// Kernels with a race and, with `sound`, without it, to test what finds them. Blocks of 64 threads.
#pragma once

constexpr int RACERS = 64;

// A thread takes what one of the other warp has put into shared memory.
KERNEL(race_of_threads, (int *to, int sound)) {
    __shared__ int room[RACERS];
    int thread = threadIdx.x;
    room[thread] = thread;
    if (sound) __syncthreads();
    to[blockIdx.x * RACERS + thread] = room[(thread + 32) % RACERS];
}

// The same in memory that blocks share and in the next place round: what was read is overwritten.
KERNEL(race_after_reading, (int *to, int sound)) {
    int *of_block = to + blockIdx.x * RACERS, thread = threadIdx.x;
    of_block[thread] = thread;
    __syncthreads();
    int taken = of_block[(thread + 32) % RACERS];
    if (sound) __syncthreads();
    of_block[thread] = taken;
}

// A barrier of the warp orders its lanes.
KERNEL(race_of_lanes, (int *to, int sound)) {
    DYNAMIC_SHARED(shared);
    int *room = (int *)shared, thread = threadIdx.x;
    room[thread] = thread;
    if (sound) __syncwarp();
    to[blockIdx.x * RACERS + thread] = room[thread ^ 1];
}

// An exchange of registers orders nothing in memory, though the lanes meet.
KERNEL(race_behind_an_exchange, (int *to, int sound)) {
    __shared__ int room[RACERS];
    int thread = threadIdx.x;
    room[thread] = __shfl_xor_sync(0xffffffff, thread, 1);
    int met = __shfl_xor_sync(0xffffffff, thread, 2);
    to[blockIdx.x * RACERS + thread] = met + (sound ? 0 : room[thread ^ 1]);
}

// A barrier of the warp orders no other warp.
KERNEL(race_of_warps, (int *to, int sound)) {
    __shared__ int room[RACERS];
    int thread = threadIdx.x;
    room[thread] = thread;
    __syncwarp();
    to[blockIdx.x * RACERS + thread] = room[thread ^ (sound ? 1 : 32)];
}

KERNEL(race_of_blocks_that_write, (int *to, int sound)) {
    if (threadIdx.x == 0) to[sound ? blockIdx.x : 0] = blockIdx.x;
}

// A block reads what another one writes.
KERNEL(race_of_blocks, (int *to, int sound)) {
    if (threadIdx.x > 0) return;
    int other = (blockIdx.x + (sound ? 0 : 1)) % gridDim.x;
    to[gridDim.x + blockIdx.x] = to[other];
    to[blockIdx.x] = 1;
}

// Every thread sets the same mark.
KERNEL(race_for_a_mark, (int *to, int sound)) {
    if (sound)
        atomicExch(to, 1);
    else
        to[0] = 1;
}

// A mark that is set atomically and read as any number.
KERNEL(race_of_a_mark, (int *to, int sound)) {
    atomicExch(to, 1);
    if (!sound) to[1 + threadIdx.x] = to[0];
}

// A copy is done when its thread has waited for it, and is then to be seen behind a barrier.
KERNEL(race_of_a_copy, (int *to, int sound)) {
    DYNAMIC_SHARED(shared);
    int *room = (int *)shared, thread = threadIdx.x;
    if (thread < RACERS / 4) begin_copy(room + 4 * thread, to + 4 * thread);
    end_group();
    if (sound) wait_for_groups<0>();
    __syncthreads();
    int taken = room[RACERS - 1 - thread];
    if (!sound) wait_for_groups<0>();
    __syncthreads();
    if (blockIdx.x == 0) to[RACERS + thread] = taken;
}

// Two numbers of a word are two places.
KERNEL(race_for_half_a_word, (bf16 *to, int sound)) {
    if (threadIdx.x < 2) to[sound ? 2 * blockIdx.x + threadIdx.x : 2 * blockIdx.x].bits = 1;
}
