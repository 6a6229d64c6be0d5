// Finds two accesses to one place of memory, at least one of which writes, that a GPU may carry out either way round.
//
// Barriers order what the threads of a block do, where a thread that has ended counts as one that has arrived; nothing
// orders the blocks of a launch; launches of one queue follow one another, and those of two queues where one waits for the
// other. Atomic accesses need no order among themselves. Of each place and each kind of access (for reads and atomic ones,
// of either queue) the last is kept: by which launch and block, and by which threads since which barrier. An access that is
// forgotten comes before the one that takes its place, or was reported with it.
//
// Not looked for: what a thread does to memory that a copy of its own (`begin_copy`) is on its way from or to.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace emulation {

enum Kind { READ, WRITE, ATOMIC };

// A thread, and how many barriers of its block it has passed.
struct Turn {
    uint32_t block;
    uint16_t thread, barriers;
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

    // What is here may become anything.
    void give_back(uintptr_t address, size_t bytes);

    // From now on accesses are those of this launch. Its name stays where it is.
    void begin(const char *name, Moment moment);

    void access(const Turn &now, uintptr_t address, size_t bytes, Kind kind);

    // The first race of this launch, in words; empty if there was none.
    std::string race;
    uintptr_t race_at = 0;

   private:
    // The bytes that are told apart; no kernel writes fewer.
    static constexpr size_t GRAIN = 2, PAGE = 4096;

    struct Access {
        // The launch, as 2 · number + queue; 0 is none.
        uint32_t launch = 0, block = 0;
        uint16_t thread = 0, barriers = 0;
    };

    struct Cell {
        Access write, reads[2], atomics[2];
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
    std::string named(const Access &access) const;

    std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
    // The pages that were looked up last, by the last digits of their numbers.
    struct Recent {
        uintptr_t number;
        Page *page;
    };
    static constexpr size_t RECENT = 1024;
    Recent recent[RECENT] = {};
    // Of the launches, by number.
    std::vector<const char *> names;
    // The one that goes on, and the last of the other queue that it waits for.
    uint32_t launch = 0, awaited = 0;
};

}  // namespace emulation
