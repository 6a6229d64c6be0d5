// Finds two accesses to one place of memory, at least one of which writes, that a GPU may carry out either way round.
//
// Barriers order what the threads of a block do; nothing orders the blocks of a launch; launches of one queue follow one
// another, and those of two queues where one waits for the other. Of each place the last write is kept and, by queue, the
// last launch that reads it, and of these accesses the block, the thread and the barriers that it had passed. What is
// forgotten comes before that, or was a race with it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace emulation {

// Of several atomic accesses to one place each comes first or last.
enum Kind { READ, WRITE, ATOMIC };

// A thread, and how many barriers of its block and of its warp it has passed.
struct Turn {
    uint32_t block, barriers;
    uint16_t thread, warp_barriers;
};

// A launch: its number among all, from 1 on; which of the two queues it is in; the last launch of the other queue that it
// waits for, 0 for none.
struct Moment {
    uint32_t number, queue, awaited;
};

class Races {
   public:
    // There is new memory here, which blocks share, or of which each has its own.
    void take(uintptr_t address, size_t bytes, bool shared_by_blocks);

    // From now on accesses are those of this launch.
    void begin(const char *name, Moment moment);

    void access(const Turn &now, uintptr_t address, size_t bytes, Kind kind);

    // The first race since the last call, in words, and where it is; empty if there was none.
    std::string found(uintptr_t *address);

   private:
    // The bytes that are told apart; no kernel writes fewer.
    static constexpr size_t GRAIN = 2, PAGE = 4096;

    // The barriers passed, and the thread, or what is known of several.
    struct When {
        uint32_t barriers = 0;
        uint16_t warp_barriers = 0, who = 0;
    };

    struct Access {
        // The launch, as 2 · number + queue; 0 is none.
        uint32_t launch = 0, block = 0;
        When when;
        bool atomic = false;
    };

    struct Cell {
        Access write, reads[2];
        bool shared_by_blocks = false;
    };

    struct Page {
        Cell cells[PAGE / GRAIN];
    };

    Page &page(uintptr_t number);
    // The cells from an address on, to the end of its page.
    Cell *cells(uintptr_t address) { return page(address / PAGE).cells + address % PAGE / GRAIN; }
    void access(const Turn &now, Cell &cell, Kind kind, uintptr_t address);
    bool ordered(const Access &then, const Turn &now, bool shared_by_blocks) const;
    void note(Access &last, const Turn &now, bool shared_by_blocks) const;
    void report(const Access &then, bool wrote, const Turn &now, Kind kind, uintptr_t address);

    std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
    // The pages that were looked up last, by the last digits of their numbers.
    struct Recent {
        uintptr_t number;
        Page *page;
    };
    static constexpr size_t RECENT = 1024;
    Recent recent[RECENT] = {};
    // Of the launches, by number.
    std::vector<std::string> names;
    // The one that goes on, and the last of the other queue that it waits for.
    uint32_t launch = 0, awaited = 0;
    std::string race;
    uintptr_t race_at = 0;
};

}  // namespace emulation
