// The memory of the emulated device: it can be touched while a kernel or a copy runs, and at no other time, so that a
// host that reads or writes it by its address ends there. What nobody has written yet is not a number, as f32 and as
// bf16.
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <map>

typedef unsigned long long Address;

class Memory {
    static constexpr size_t RESERVED = 64ull << 30, TOTAL = 16ull << 30, FENCE = 256, PAGE = 4096;
    static constexpr unsigned char INTACT = 0x5a;

    unsigned char *begin = nullptr;
    size_t end = 0, used = 0;
    int open = 0;
    // The bytes of each piece, and the pieces that are free, by their room.
    std::map<Address, size_t> pieces;
    std::multimap<size_t, Address> spare;

    // With a fence on either side.
    static size_t room(size_t bytes) { return (bytes + 255) / 256 * 256 + 2 * FENCE; }

    void protect(int how) { mprotect(begin, end / PAGE * PAGE + PAGE, how); }

  public:
    void start() {
        if (begin) return;
        int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        begin = (unsigned char *)mmap(nullptr, RESERVED, PROT_NONE, kind, -1, 0);
    }

    size_t total() const { return TOTAL; }
    size_t free_bytes() const { return TOTAL - used; }

    // While one of these is there, the memory can be touched.
    class Opened {
        Memory &memory;

      public:
        explicit Opened(Memory &memory) : memory(memory) {
            if (!memory.open++) memory.protect(PROT_READ | PROT_WRITE);
        }
        ~Opened() {
            if (!--memory.open) memory.protect(PROT_NONE);
        }
    };

    // 0 if there is no more.
    Address take(size_t bytes) {
        size_t of_piece = room(bytes);
        if (used + of_piece > TOTAL) return 0;
        Address piece;
        auto found = spare.find(of_piece);
        if (found != spare.end()) {
            piece = found->second;
            spare.erase(found);
        } else {
            if (end + of_piece > RESERVED - PAGE) return 0;
            piece = (Address)begin + end;
            end += of_piece;
        }
        used += of_piece;
        Opened opened(*this);
        memset((void *)piece, INTACT, of_piece);
        memset((void *)(piece + FENCE), 0xff, bytes);
        pieces[piece + FENCE] = bytes;
        return piece + FENCE;
    }

    bool give_back(Address address) {
        auto found = pieces.find(address);
        if (found == pieces.end()) return false;
        size_t bytes = found->second;
        Opened opened(*this);
        memset((void *)address, 0xff, bytes);
        used -= room(bytes);
        spare.emplace(room(bytes), address - FENCE);
        pieces.erase(found);
        return true;
    }

    // Whether all these bytes are of one piece.
    bool holds(Address address, size_t bytes) const {
        auto found = pieces.upper_bound(address);
        if (found == pieces.begin()) return false;
        --found;
        return address + bytes <= found->first + found->second;
    }

    // Whether an address is one of this memory, of a piece or not.
    bool reserves(Address address) const { return address >= (Address)begin && address < (Address)begin + RESERVED; }

    // Whether everything between the pieces is as it was. The memory is open.
    bool intact() const {
        for (auto &[address, bytes] : pieces) {
            const unsigned char *piece = (const unsigned char *)address;
            for (size_t i = 1; i <= FENCE; i++)
                if (piece[-(ptrdiff_t)i] != INTACT) return false;
            for (size_t i = bytes; i < room(bytes) - FENCE; i++)
                if (piece[i] != INTACT) return false;
        }
        return true;
    }
};
