// What the emulated driver and the libraries on top of it share.
#pragma once

#include <functional>
#include <map>
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
    STREAM_CAPTURE_UNMATCHED = 903,
    STREAM_CAPTURE_UNJOINED = 904,
    STREAM_CAPTURE_ISOLATION = 905,
    CAPTURED_EVENT = 907,
    STREAM_CAPTURE_WRONG_THREAD = 908,
};

// Says on stderr what a program has done that a driver refuses.
Status refuse(Status status, const char *function, const std::string &reason);
#define REFUSE(status, reason) return refuse(status, __func__, reason)

typedef std::function<Status()> Work;

struct Stream;

// What becomes a graph: the work of a stream, and of those that have waited for events of it.
struct Capture {
    std::vector<Work> work;
    Stream *origin;
    // Streams whose last work nothing of the first stream waits for yet, with the length of `work` behind it.
    std::map<Stream *, size_t> unjoined = {};
    bool invalid = false;
    int mode = 0;
    std::thread::id begun_by;
};

// Work waits here until somebody waits for it, so that a host that does not wait finds nothing done.
struct Stream {
    std::vector<Work> queue;
    std::shared_ptr<Capture> captured;
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
