// A `libcuda.so.1` on the CPU: what a program asks of CUDA's driver, by the driver's rules, with the kernels of
// `kernels/` and those of Candle run by the emulation. `check.sh` says what it is for.

#include "driver.h"

#include <stdio.h>
#include <stdlib.h>

#include <chrono>

#include "../../crates/ir-tensor-ops/kernels/kernels.cpp"
#include "../../crates/ir-tensor-ops/kernels/accesses.cpp"
#include "../../crates/ir-tensor-ops/kernels/emulation.cpp"
#include "../../crates/ir-tensor-ops/kernels/matrix.cpp"
#include "../../crates/ir-tensor-ops/kernels/races.cpp"

Driver driver;

static thread_local void *context;
// Captures begun by this thread, in whose time it may not ask for what works on all streams.
static thread_local int captures;

Status refuse(Status status, const char *function, const std::string &reason) {
    fprintf(stderr, "emulated driver: %s: error %d: %s\n", function, status, reason.c_str());
    return status;
}

// The default streams are handles that are no pointers: 0 and 1 for all threads, 2 for each its own.
Stream *Driver::stream(void *handle) {
    static Stream *shared = new Stream;
    static thread_local Stream *own = new Stream;
    if ((uintptr_t)handle <= 2) {
        Stream *found = (uintptr_t)handle == 2 ? own : shared;
        streams.insert(found);
        return found;
    }
    return streams.count((Stream *)handle) ? (Stream *)handle : nullptr;
}

Status Driver::enqueue(Stream *stream, Work work) {
    if (broken) return broken;
    if (!stream->captured) {
        stream->queue.push_back(std::move(work));
        return SUCCESS;
    }
    Capture &capture = *stream->captured;
    if (capture.invalid) REFUSE(STREAM_CAPTURE_INVALIDATED, "the capture is invalid");
    capture.work.push_back(std::move(work));
    if (stream != capture.origin) capture.unjoined[stream] = capture.work.size();
    return SUCCESS;
}

Status Driver::finish(Stream *stream) {
    std::vector<Work> queue;
    queue.swap(stream->queue);
    for (Work &work : queue) {
        if (broken) break;
        broken = work();
    }
    return broken;
}

Status Driver::finish_all() {
    for (Stream *stream : streams) finish(stream);
    return broken;
}

static Status unsupported(Stream *stream, const char *function, const std::string &reason) {
    stream->captured->invalid = true;
    return refuse(STREAM_CAPTURE_UNSUPPORTED, function, reason);
}

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

#define BEGIN                    \
    Locked locked(driver.mutex); \
    if (!context) REFUSE(INVALID_CONTEXT, "no context belongs to this thread")
#define ON(handle)                          \
    BEGIN;                                  \
    Stream *stream = driver.stream(handle); \
    if (!stream) REFUSE(INVALID_HANDLE, "there is no such stream")
#define NOT_CAPTURED(what) \
    if (stream->captured) return unsupported(stream, __func__, what " while its stream is captured")
#define OF_ALL_STREAMS                                                                                       \
    BEGIN;                                                                                                   \
    if (captures) {                                                                                          \
        for (Stream *stream : driver.streams)                                                                \
            if (stream->captured) stream->captured->invalid = true;                                          \
        REFUSE(STREAM_CAPTURE_UNSUPPORTED, "it concerns all streams, and this thread captures one of them"); \
    }

// What one device of Hopper's kind says of itself.
static constexpr size_t SHARED_BYTES = 232448, SHARED_BYTES_UNASKED = 48 << 10, REGISTERS = 64 << 10;

extern "C" {

Status cuInit(unsigned) {
    Locked locked(driver.mutex);
    driver.memory.start();
    return SUCCESS;
}

Status cuDeviceGetCount(int *count) {
    *count = 1;
    return SUCCESS;
}

Status cuDeviceGet(int *device, int ordinal) {
    if (ordinal != 0) REFUSE(INVALID_DEVICE, "there is one device");
    *device = 0;
    return SUCCESS;
}

Status cuDeviceGetName(char *name, int length, int) {
    snprintf(name, length, "emulated driver");
    return SUCCESS;
}

Status cuDeviceGetAttribute(int *value, int attribute, int) {
    // In order: capability (major, minor), memory pools, multiprocessors, shared memory, threads of a block.
    static const std::map<int, int> known = {{75, 9}, {76, 0}, {115, 1}, {16, 132}, {97, SHARED_BYTES}, {1, 1024}};
    auto found = known.find(attribute);
    if (found == known.end()) REFUSE(INVALID_VALUE, "attribute " + std::to_string(attribute));
    *value = found->second;
    return SUCCESS;
}

// Memory is one pool, which keeps what is given back whatever is asked of it.
Status cuDeviceGetDefaultMemPool(void **pool, int) {
    *pool = &driver.memory;
    return SUCCESS;
}

Status cuMemPoolSetAttribute(void *pool, int attribute, void *) {
    static const int RELEASE_THRESHOLD = 4;
    if (pool != &driver.memory) REFUSE(INVALID_HANDLE, "there is no such pool");
    if (attribute != RELEASE_THRESHOLD) REFUSE(INVALID_VALUE, "attribute " + std::to_string(attribute));
    return SUCCESS;
}

Status cuDevicePrimaryCtxRetain(void **made, int) {
    *made = &driver;
    return SUCCESS;
}

Status cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }

Status cuCtxGetCurrent(void **found) {
    *found = context;
    return SUCCESS;
}

Status cuCtxSetCurrent(void *made) {
    context = made;
    return SUCCESS;
}

Status cuCtxSynchronize() {
    OF_ALL_STREAMS;
    return driver.finish_all();
}

Status cuGetErrorName(Status status, const char **text) {
    static thread_local char name[32];
    snprintf(name, sizeof name, "error %d", status);
    *text = name;
    return SUCCESS;
}

Status cuGetErrorString(Status status, const char **text) { return cuGetErrorName(status, text); }

// Memory.

Status cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    BEGIN;
    *free_bytes = driver.memory.free_bytes();
    *total = driver.memory.total();
    return SUCCESS;
}

Status cuMemAlloc_v2(Address *address, size_t bytes) {
    OF_ALL_STREAMS;
    *address = driver.memory.take(bytes);
    return *address ? SUCCESS : OUT_OF_MEMORY;
}

Status cuMemAllocAsync(Address *address, size_t bytes, void *handle) {
    ON(handle);
    NOT_CAPTURED("memory is taken");
    *address = driver.memory.take(bytes);
    return *address ? SUCCESS : OUT_OF_MEMORY;
}

static Status give_back(Address address) {
    if (!driver.memory.give_back(address)) REFUSE(INVALID_VALUE, "this memory was not taken");
    return SUCCESS;
}

Status cuMemFree_v2(Address address) {
    OF_ALL_STREAMS;
    Status status = driver.finish_all();
    return status ? status : give_back(address);
}

Status cuMemFreeAsync(Address address, void *handle) {
    ON(handle);
    NOT_CAPTURED("memory is given back");
    return driver.enqueue(stream, [=] { return give_back(address); });
}

// The host's memory can be swapped out, so that the driver has read or written it before it returns.

static Status copy_in(const char *function, Address to, const void *from, size_t bytes, Stream *stream) {
    if (stream->captured) return unsupported(stream, function, "the host's memory can be swapped out");
    auto copy = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
    return driver.enqueue(stream, [=] {
        if (!driver.memory.holds(to, bytes)) return refuse(ILLEGAL_ADDRESS, function, "not all of it is memory");
        Memory::Opened opened(driver.memory);
        memcpy((void *)to, copy->data(), bytes);
        return (Status)SUCCESS;
    });
}

static Status copy_out(const char *function, void *to, Address from, size_t bytes, Stream *stream) {
    if (stream->captured) return unsupported(stream, function, "the host's memory can be swapped out");
    Status status = driver.finish(stream);
    if (status) return status;
    if (!driver.memory.holds(from, bytes)) return refuse(ILLEGAL_ADDRESS, function, "not all of it is memory");
    Memory::Opened opened(driver.memory);
    memcpy(to, (void *)from, bytes);
    return SUCCESS;
}

Status cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *handle) {
    ON(handle);
    return copy_in(__func__, to, from, bytes, stream);
}

Status cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *handle) {
    ON(handle);
    return copy_out(__func__, to, from, bytes, stream);
}

Status cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *handle) {
    ON(handle);
    return driver.enqueue(stream, [=]() -> Status {
        bool there = driver.memory.holds(to, bytes) && driver.memory.holds(from, bytes);
        if (!there) REFUSE(ILLEGAL_ADDRESS, "not all of it is memory");
        Memory::Opened opened(driver.memory);
        memmove((void *)to, (void *)from, bytes);
        return SUCCESS;
    });
}

Status cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void *handle) {
    ON(handle);
    return driver.enqueue(stream, [=]() -> Status {
        if (!driver.memory.holds(to, bytes)) REFUSE(ILLEGAL_ADDRESS, "not all of it is memory");
        Memory::Opened opened(driver.memory);
        memset((void *)to, value, bytes);
        return SUCCESS;
    });
}

// Kernels.

struct Module;

struct Function {
    std::string name;
    const Module *module;
    std::vector<size_t> parameters;
    // What ptxas says of it.
    unsigned registers = 0;
    size_t shared_bytes = 0;
    // What a launch may take besides.
    size_t most_shared_bytes = SHARED_BYTES_UNASKED;
    bool used = false;
};

struct Module {
    // Those of this project come as machine code, Candle's as text.
    bool ours;
    std::string text;
    std::map<std::string, std::unique_ptr<Function>> functions = {};
    bool loaded = true;
};

Status cuModuleLoadData(void **made, const void *image) {
    OF_ALL_STREAMS;
    unsigned first;
    memcpy(&first, image, sizeof first);
    bool ours = first == 0xba55ed50;
    *made = new Module{ours, ours ? "" : (const char *)image};
    return SUCCESS;
}

Status cuModuleUnload(void *module) {
    // What is left of it says of its kernels that they are no longer there.
    ((Module *)module)->loaded = false;
    return SUCCESS;
}

// Finds what ptxas says of a kernel in the file of lines `name registers bytes` that DRIVER_RESOURCES names.
static bool read_resources(Function &function) {
    const char *path = getenv("DRIVER_RESOURCES");
    FILE *file = path ? fopen(path, "r") : nullptr;
    if (!file) return false;
    char name[256];
    bool found = false;
    while (!found && fscanf(file, "%255s %u %zu", name, &function.registers, &function.shared_bytes) == 3)
        found = function.name == name;
    fclose(file);
    return found;
}

Status cuModuleGetFunction(void **found, void *handle, const char *name) {
    BEGIN;
    Module &module = *(Module *)handle;
    auto &kept = module.functions[name];
    if (!kept) {
        auto function = std::make_unique<Function>();
        function->name = name;
        function->module = &module;
        while (size_t bytes = emulation_parameter(name, function->parameters.size()))
            function->parameters.push_back(bytes);
        if (function->parameters.empty()) REFUSE(NOT_FOUND, std::string(name) + " has not been compiled for this");
        bool there = module.ours ? read_resources(*function)
                                 : module.text.find(std::string(".entry ") + name + "(") != std::string::npos;
        if (!there) REFUSE(NOT_FOUND, name);
        kept = std::move(function);
    }
    *found = kept.get();
    return SUCCESS;
}

Status cuFuncSetAttribute(void *handle, int attribute, int value) {
    BEGIN;
    Function &function = *(Function *)handle;
    // The most dynamic shared memory.
    if (attribute != 8) REFUSE(INVALID_VALUE, "attribute " + std::to_string(attribute));
    if (value < 0 || value + function.shared_bytes > SHARED_BYTES) REFUSE(INVALID_VALUE, function.name);
    function.most_shared_bytes = value;
    return SUCCESS;
}

// Registers are given to four warps at a time, 256 of each at once.
static bool registers_suffice(const Function &function, unsigned threads) {
    unsigned warps = (threads + 127) / 128 * 4;
    return warps * ((function.registers * 32 + 255) / 256 * 256) <= REGISTERS;
}

static Status run(const Function &function, const unsigned grid[3], const unsigned block[3], size_t shared_bytes,
                  std::vector<uint64_t> arguments) {
    if (!function.module->loaded) REFUSE(INVALID_HANDLE, function.name + " has been unloaded with its module");
    std::vector<void *> places;
    for (uint64_t &argument : arguments) places.push_back(&argument);
    Memory::Opened opened(driver.memory);
    int status = emulation_launch(function.name.c_str(), grid, block, shared_bytes, places.data(), 0, nullptr, nullptr);
    if (status) REFUSE(LAUNCH_FAILED, function.name + ": emulation_launch says " + std::to_string(status));
    if (!driver.memory.intact()) REFUSE(ILLEGAL_ADDRESS, function.name + " has written beside its memory");
    return SUCCESS;
}

Status cuLaunchKernel(void *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                      unsigned block_y, unsigned block_z, unsigned shared_bytes, void *handle, void **given, void **) {
    ON(handle);
    Function &function = *(Function *)kernel;
    unsigned threads = block_x * block_y * block_z;
    bool fits = grid_x > 0 && grid_y > 0 && grid_z > 0 && grid_y < 1 << 16 && grid_z < 1 << 16 && threads > 0 &&
                threads <= 1024 && block_z <= 64;
    if (!fits) REFUSE(INVALID_VALUE, function.name + ": blocks or threads");
    if (shared_bytes > function.most_shared_bytes) REFUSE(INVALID_VALUE, function.name + ": shared memory");
    if (!registers_suffice(function, threads)) REFUSE(LAUNCH_OUT_OF_RESOURCES, function.name + ": registers");
    // A kernel may be loaded when it is first used, which cannot be captured.
    if (stream->captured && !function.used) return unsupported(stream, __func__, function.name + " was never used");
    function.used = true;
    std::vector<uint64_t> arguments;
    for (size_t place = 0; place < function.parameters.size(); place++) {
        uint64_t argument = 0;
        size_t bytes = function.parameters[place];
        memcpy(&argument, given[place], bytes);
        if (bytes == 8 && driver.memory.reserves(argument) && !driver.memory.holds(argument, 0))
            REFUSE(ILLEGAL_ADDRESS, function.name + ": nothing is where argument " + std::to_string(place) + " leads");
        arguments.push_back(argument);
    }
    return driver.enqueue(stream, [=, &function] {
        unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
        return run(function, grid, block, shared_bytes, arguments);
    });
}

// Streams, events and graphs.

Status cuStreamCreate(void **made, unsigned) {
    BEGIN;
    Stream *stream = new Stream;
    driver.streams.insert(stream);
    *made = stream;
    return SUCCESS;
}

Status cuStreamDestroy_v2(void *handle) {
    ON(handle);
    Status status = driver.finish(stream);
    driver.streams.erase(stream);
    delete stream;
    return status;
}

Status cuStreamSynchronize(void *handle) {
    ON(handle);
    NOT_CAPTURED("somebody waits");
    return driver.finish(stream);
}

Status cuStreamBeginCapture_v2(void *handle, int mode) {
    ON(handle);
    if ((uintptr_t)handle <= 1) REFUSE(STREAM_CAPTURE_UNSUPPORTED, "the default stream of all threads");
    if (stream->captured) REFUSE(INVALID_VALUE, "it is captured already");
    stream->captured = std::make_shared<Capture>();
    stream->captured->origin = stream;
    stream->captured->mode = mode;
    stream->captured->begun_by = std::this_thread::get_id();
    captures++;
    return SUCCESS;
}

Status cuStreamEndCapture(void *handle, void **graph) {
    ON(handle);
    *graph = nullptr;
    if (!stream->captured) REFUSE(INVALID_VALUE, "it is not captured");
    std::shared_ptr<Capture> capture = stream->captured;
    if (capture->begun_by != std::this_thread::get_id()) REFUSE(STREAM_CAPTURE_WRONG_THREAD, "another thread began");
    if (capture->origin != stream) REFUSE(STREAM_CAPTURE_UNMATCHED, "it came into the capture of another stream");
    captures--;
    for (Stream *other : driver.streams)
        if (other->captured == capture) other->captured = nullptr;
    if (capture->invalid) REFUSE(STREAM_CAPTURE_INVALIDATED, "see above");
    if (!capture->unjoined.empty()) REFUSE(STREAM_CAPTURE_UNJOINED, "the first stream waits for another one's work no more");
    *graph = new std::vector<Work>(std::move(capture->work));
    return SUCCESS;
}

Status cuStreamIsCapturing(void *handle, int *status) {
    ON(handle);
    *status = !stream->captured ? 0 : stream->captured->invalid ? 2 : 1;
    return SUCCESS;
}

struct Event {
    bool timed, recorded = false;
    double seconds = 0;
    // Where it was recorded: by which stream, in which capture, behind how much work of it.
    Stream *stream = nullptr;
    std::shared_ptr<Capture> captured = nullptr;
    size_t behind = 0;
};

// Whatever else is under way is done first, which is more than a driver promises. What is captured happens in the order in which
// it was asked for, which is one of those that a graph allows.
Status cuStreamWaitEvent(void *handle, void *awaited, unsigned) {
    ON(handle);
    const Event &event = *(Event *)awaited;
    if (stream->captured && event.recorded && event.captured != stream->captured) {
        stream->captured->invalid = true;
        REFUSE(STREAM_CAPTURE_ISOLATION, "the event was recorded outside of the capture");
    }
    if (event.captured && event.captured->origin->captured != event.captured)
        REFUSE(CAPTURED_EVENT, "the event is one of a capture that has ended");
    if (event.captured) {
        // It comes into the capture, or is joined.
        Capture &capture = *event.captured;
        stream->captured = event.captured;
        auto left = capture.unjoined.find(event.stream);
        if (stream == capture.origin && left != capture.unjoined.end() && left->second <= event.behind)
            capture.unjoined.erase(left);
        return SUCCESS;
    }
    for (Stream *other : driver.streams)
        if (other != stream && !other->captured) driver.finish(other);
    return driver.broken;
}

Status cuEventCreate(void **made, unsigned flags) {
    BEGIN;
    const unsigned disable_timing = 2;
    *made = new Event{!(flags & disable_timing)};
    return SUCCESS;
}

// Work that is under way may still record it.
Status cuEventDestroy_v2(void *) { return SUCCESS; }

Status cuEventRecordWithFlags(void *made, void *handle, unsigned flags) {
    ON(handle);
    Event &event = *(Event *)made;
    const unsigned external = 1;
    if (flags & ~external) REFUSE(INVALID_VALUE, "flags");
    if (flags & external && !stream->captured) REFUSE(INVALID_VALUE, "an external event outside of a capture");
    // As a part of a graph it is recorded whenever the graph runs.
    if (flags & external)
        return driver.enqueue(stream, [&event] {
            event.recorded = true;
            event.seconds = now();
            return (Status)SUCCESS;
        });
    event.recorded = true;
    event.stream = stream;
    event.captured = stream->captured;
    // In a capture it is a place between what was asked for, and nothing that happens.
    if (stream->captured) {
        event.behind = stream->captured->work.size();
        return SUCCESS;
    }
    return driver.enqueue(stream, [&event] {
        event.seconds = now();
        return (Status)SUCCESS;
    });
}

Status cuEventRecord(void *event, void *handle) { return cuEventRecordWithFlags(event, handle, 0); }

Status cuEventSynchronize(void *made) {
    BEGIN;
    if (((Event *)made)->captured) REFUSE(CAPTURED_EVENT, "the event is one of a capture");
    return driver.finish_all();
}

Status cuEventQuery(void *event) { return cuEventSynchronize(event); }

Status cuEventElapsedTime_v2(float *milliseconds, void *first, void *second) {
    BEGIN;
    const Event &from = *(Event *)first, &to = *(Event *)second;
    if (!from.timed || !to.timed) REFUSE(INVALID_HANDLE, "an event that was made without its time");
    if (!from.recorded || !to.recorded) REFUSE(INVALID_HANDLE, "an event that was not recorded");
    *milliseconds = 1e3 * (to.seconds - from.seconds);
    return SUCCESS;
}

Status cuEventElapsedTime(float *milliseconds, void *from, void *to) {
    return cuEventElapsedTime_v2(milliseconds, from, to);
}

Status cuGraphInstantiateWithFlags(void **made, void *graph, unsigned long long) {
    BEGIN;
    *made = new std::vector<Work>(*(std::vector<Work> *)graph);
    return SUCCESS;
}

Status cuGraphLaunch(void *graph, void *handle) {
    ON(handle);
    for (const Work &work : *(std::vector<Work> *)graph) {
        Status status = driver.enqueue(stream, work);
        if (status) return status;
    }
    return SUCCESS;
}

Status cuGraphDestroy(void *graph) {
    delete (std::vector<Work> *)graph;
    return SUCCESS;
}

Status cuGraphExecDestroy(void *graph) { return cuGraphDestroy(graph); }

}  // extern "C"
