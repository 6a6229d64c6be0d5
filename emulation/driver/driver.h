// What the emulated driver and the libraries on top of it share.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "memory.h"

typedef int Status;

// The names of cuda.h, as far as they occur.
enum : Status {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
    LAUNCH_FAILED = 719,
    STREAM_CAPTURE_UNSUPPORTED = 900,
    STREAM_CAPTURE_INVALIDATED = 901,
    STREAM_CAPTURE_ISOLATION = 905,
    CAPTURED_EVENT = 907,
    STREAM_CAPTURE_WRONG_THREAD = 908,
};

// Says on stderr what a program has done that a driver refuses.
Status refuse(Status status, const char *function, const std::string &reason);
#define REFUSE(status, reason) return refuse(status, __func__, reason)

typedef std::function<Status()> Work;

// Work waits here until somebody waits for it, so that a host that does not wait finds nothing done.
struct Stream {
    std::vector<Work> queue;
    // While it is captured: what the graph will do.
    std::unique_ptr<std::vector<Work>> captured;
    bool invalid = false;
    int mode = 0;
    std::thread::id captured_by;
};

struct Driver {
    std::recursive_mutex mutex;
    Memory memory;
    std::set<Stream *> streams;
    // After an error of work nothing works any more.
    Status broken = SUCCESS;

    Stream *stream(void *handle);
    Status enqueue(Stream *stream, Work work);
    Status finish(Stream *stream);
    Status finish_all();
};

extern Driver driver;

typedef std::lock_guard<std::recursive_mutex> Locked;
