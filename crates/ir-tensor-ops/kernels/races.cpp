#include "races.h"

#include <stdio.h>

#include <algorithm>

namespace emulation {

namespace {

// In place of a thread: several of a warp, to which its number is added, or of several warps.
constexpr uint16_t OF_WARP = 0x4000, OF_WARPS = 0x8000;
// In place of a block: several.
constexpr uint32_t BLOCKS = UINT32_MAX;

int warp_of(uint16_t who) { return who == OF_WARPS ? -1 : who >= OF_WARP ? who - OF_WARP : who / 32; }

std::string named(uint32_t block, uint16_t who) {
    if (block == BLOCKS) return "several blocks";
    std::string threads = who == OF_WARPS  ? "several warps"
                          : who >= OF_WARP ? "warp " + std::to_string(who - OF_WARP)
                                           : "thread " + std::to_string(who);
    return threads + " of block " + std::to_string(block);
}

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
    for (uintptr_t end = address + bytes; address < end; address += GRAIN)
        *cells(address) = Cell{{}, {}, shared_by_blocks};
}

void Races::begin(const char *name, Moment moment) {
    launch = 2 * moment.number + moment.queue;
    awaited = moment.awaited == 0 ? 0 : 2 * moment.awaited + 1 - moment.queue;
    if (names.size() <= moment.number) names.resize(moment.number + 1);
    names[moment.number] = name;
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

void Races::access(const Turn &now, Cell &cell, Kind kind, uintptr_t address) {
    Access &write = cell.write;
    bool both_atomic = write.atomic && kind == ATOMIC;
    if (!both_atomic && !ordered(write, now, cell.shared_by_blocks)) report(write, true, now, kind, address);
    if (kind == READ) return note(cell.reads[launch % 2], now, cell.shared_by_blocks);
    for (const Access &read : cell.reads)
        if (!ordered(read, now, cell.shared_by_blocks)) report(read, false, now, kind, address);
    if (!both_atomic) write = Access();
    note(write, now, cell.shared_by_blocks);
    write.atomic = kind == ATOMIC;
}

// Whether what was done then is done by now. What a block has of its own is gone with the block.
bool Races::ordered(const Access &then, const Turn &now, bool shared_by_blocks) const {
    if (then.launch != launch)
        return !shared_by_blocks || then.launch % 2 == launch % 2 || then.launch <= awaited;
    if (then.block != now.block) return !shared_by_blocks;
    if (then.when.barriers != now.barriers || then.when.who == now.thread) return true;
    return warp_of(then.when.who) == now.thread / 32 && then.when.warp_barriers != now.warp_barriers;
}

// Adds an access to those that need no order among them: of one block or of several, and of one block those since its last barrier.
void Races::note(Access &last, const Turn &now, bool shared_by_blocks) const {
    bool other_block = last.block != now.block;
    if (last.launch == launch && other_block && shared_by_blocks) {
        last.block = BLOCKS;
        return;
    }
    uint16_t who = now.thread;
    if (last.launch == launch && !other_block && last.when.barriers == now.barriers) {
        if (warp_of(last.when.who) != who / 32)
            who = OF_WARPS;
        else if (last.when.who != who && last.when.warp_barriers == now.warp_barriers)
            who = OF_WARP + who / 32;
    }
    last = {launch, now.block, {now.barriers, now.warp_barriers, who}};
}

void Races::report(const Access &then, bool wrote, const Turn &now, Kind kind, uintptr_t address) {
    if (!race.empty()) return;
    race_at = address;
    std::string other = then.launch == launch ? named(then.block, then.when.who) : names[then.launch / 2];
    race = named(now.block, now.thread) + (kind == READ ? " reads" : " writes") + " what " + other +
           (wrote ? " writes" : " reads") + ", and nothing says which comes first";
}

std::string Races::found(uintptr_t *address) {
    std::string found = race;
    race.clear();
    *address = race_at;
    return found;
}

}  // namespace emulation

using namespace emulation;

extern "C" Races *emulation_races() { return new Races; }

extern "C" void emulation_no_races(Races *races) { delete races; }

// There is new memory here.
extern "C" void emulation_take(Races *races, uintptr_t address, size_t bytes, int shared_by_blocks) {
    races->take(address, bytes, shared_by_blocks);
}

// The host reads or writes, as a launch would.
extern "C" void emulation_copy(Races *races, uintptr_t address, size_t bytes, int writes, const Moment *moment) {
    races->begin("the host", *moment);
    races->access({}, address, bytes, writes ? WRITE : READ);
}

// Writes the first race since the last call, and returns how long it is; 0 if there was none.
extern "C" size_t emulation_race(Races *races, char *text, size_t room, uintptr_t *address) {
    std::string found = races->found(address);
    return snprintf(text, room, "%s", found.c_str());
}
