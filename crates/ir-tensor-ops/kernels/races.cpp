#include "races.h"

#include <stdio.h>

#include <algorithm>

namespace emulation {

namespace {

const char HOST[] = "the host";
// In place of a block or a thread: several.
constexpr uint32_t BLOCKS = UINT32_MAX;
constexpr uint16_t THREADS = UINT16_MAX;

}  // namespace

Races::Page &Races::page(uintptr_t number) {
    Recent &last = recent[number % RECENT];
    if (last.page && last.number == number) return *last.page;
    std::unique_ptr<Page> &found = pages[number];
    if (!found) found.reset(new Page);
    last = {number, found.get()};
    return *found;
}

void Races::take(uintptr_t address, size_t bytes, bool shared_by_blocks) {
    for (uintptr_t end = address + bytes; address < end; address += GRAIN) {
        Cell &cell = *cells(address);
        cell = Cell();
        cell.shared_by_blocks = shared_by_blocks;
    }
}

void Races::give_back(uintptr_t address, size_t bytes) {
    uintptr_t end = address + bytes, first_page = (address + PAGE - 1) / PAGE, end_page = end / PAGE;
    if (first_page >= end_page) return take(address, bytes, false);
    take(address, first_page * PAGE - address, false);
    take(end_page * PAGE, end - end_page * PAGE, false);
    for (uintptr_t number = first_page; number < end_page; number++) {
        pages.erase(number);
        Recent &last = recent[number % RECENT];
        if (last.number == number) last.page = nullptr;
    }
}

void Races::begin(const char *name, Moment moment) {
    launch = 2 * moment.number + moment.queue;
    awaited = moment.awaited == 0 ? 0 : 2 * moment.awaited + 1 - moment.queue;
    if (names.size() <= moment.number) names.resize(moment.number + 1);
    names[moment.number] = name;
    race.clear();
}

// Whether what was done then is done by now. What a block has of its own is gone with the block.
inline bool Races::ordered(const Access &then, const Turn &now, bool shared_by_blocks) const {
    if (then.launch != launch)
        return !shared_by_blocks || then.launch % 2 == launch % 2 || then.launch <= awaited;
    if (then.block != now.block) return !shared_by_blocks;
    return then.barriers != now.barriers || then.thread == now.thread;
}

// Adds an access to those of a launch that need no order among them: of one block or of several, and of one block those
// since its last barrier.
inline void Races::note(Access &last, const Turn &now, bool shared_by_blocks) const {
    bool other_block = last.block != now.block;
    if (last.launch == launch && other_block && shared_by_blocks) {
        last.block = BLOCKS;
        return;
    }
    bool with_others = last.launch == launch && !other_block && last.barriers == now.barriers &&
                       last.thread != now.thread;
    last = {launch, now.block, with_others ? THREADS : now.thread, now.barriers};
}

inline void Races::access(const Turn &now, Cell &cell, Kind kind, uintptr_t address) {
    auto check = [&](const Access &then, const char *did) {
        if (then.launch == 0 || ordered(then, now, cell.shared_by_blocks) || !race.empty()) return;
        Access here;
        note(here, now, cell.shared_by_blocks);
        race = (kind == READ ? "read by " : "written by ") + named(here) + " and " + did + named(then) + " in no order";
        race_at = address;
    };
    Access &last = kind == WRITE ? cell.write : (kind == READ ? cell.reads : cell.atomics)[launch % 2];
    // Most reads are the same again.
    if (kind == READ && last.launch == launch && last.block == now.block && last.barriers == now.barriers &&
        (last.thread == now.thread || last.thread == THREADS))
        return;
    check(cell.write, "written by ");
    for (int queue : {0, 1}) {
        if (kind != ATOMIC) check(cell.atomics[queue], "written by ");
        if (kind != READ) check(cell.reads[queue], "read by ");
    }
    if (kind == WRITE) cell.write = Access();
    note(last, now, cell.shared_by_blocks);
}

void Races::access(const Turn &now, uintptr_t address, size_t bytes, Kind kind) {
    uintptr_t end = address + bytes;
    address -= address % GRAIN;
    while (address < end) {
        Cell *cell = cells(address);
        uintptr_t last = std::min(end, (address / PAGE + 1) * PAGE);
        for (; address < last; address += GRAIN) access(now, *cell++, kind, address);
    }
}

std::string Races::named(const Access &access) const {
    const char *name = names[access.launch / 2];
    if (access.launch != launch || name == HOST) return name;
    if (access.block == BLOCKS) return "several blocks";
    std::string threads = access.thread == THREADS ? "several threads" : "thread " + std::to_string(access.thread);
    return threads + " of block " + std::to_string(access.block);
}

}  // namespace emulation

using namespace emulation;

extern "C" Races *emulation_races() noexcept { return new Races; }

extern "C" void emulation_no_races(Races *races) noexcept { delete races; }

// There is new memory of the device here.
extern "C" void emulation_take(Races *races, uintptr_t address, size_t bytes) noexcept {
    races->take(address, bytes, true);
}

extern "C" void emulation_give_back(Races *races, uintptr_t address, size_t bytes) noexcept {
    races->give_back(address, bytes);
}

// The host reads or writes, as a launch would.
extern "C" void emulation_copy(Races *races, uintptr_t address, size_t bytes, int writes,
                               const Moment *moment) noexcept {
    races->begin(HOST, *moment);
    races->access({}, address, bytes, writes ? WRITE : READ);
}

// Writes the first race of the last launch or copy, and returns how long it is; 0 if there was none.
extern "C" size_t emulation_race(const Races *races, char *text, size_t room, uintptr_t *address) noexcept {
    *address = races->race_at;
    return snprintf(text, room, "%s", races->race.c_str());
}
