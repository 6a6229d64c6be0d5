// Which part of a map a block of a convolution works on, and how it comes into shared memory.
#pragma once

// A convolution reads a source map and writes a target map. Going back, the source is the gradient behind it. A block
// takes a tile of the target: some rows and columns of some images. No map has 2³¹ numbers.
struct Sizes {
    int images, source_height, source_width, source_channels, target_height, target_width, target_channels;
    int stride, padding, tile_images, tile_rows, tile_columns, tiles_down, tiles_across;
    // Channels of the source that are in shared memory at a time: 16, 32 or 64.
    int chunk;
    // 2³¹ over the places of a row and of an image of a tile, and of what a tile needs of the source, and over the tiles
    // across and down an image; rounded up.
    unsigned per_row, per_plane, per_window_row, per_window_plane, per_across, per_down;
};

#define SIZES                                                                                                   \
    int images, int source_height, int source_width, int source_channels, int target_height, int target_width,  \
        int target_channels, int stride, int padding, int tile_images, int tile_rows, int tile_columns,         \
        int tiles_down, int tiles_across, int chunk, unsigned per_row, unsigned per_plane,                      \
        unsigned per_window_row, unsigned per_window_plane, unsigned per_across, unsigned per_down
#define SIZES_GIVEN                                                                                           \
    Sizes {                                                                                                   \
        images, source_height, source_width, source_channels, target_height, target_width, target_channels,   \
            stride, padding, tile_images, tile_rows, tile_columns, tiles_down, tiles_across, chunk, per_row,  \
            per_plane, per_window_row, per_window_plane, per_across, per_down                                 \
    }

// number / divisor, for a product of the two below 2³¹; `per` is 2³¹ / divisor rounded up. A division takes as long as dozens of
// products.
__device__ inline int quotient(int number, unsigned per) { return __umulhi(2 * number, per); }

// The exponent of a chunk's WIDE numbers: 2, 4 or 8.
__device__ inline int shift_of(int chunk) { return chunk == 64 ? 3 : chunk == 32 ? 2 : 1; }

// What a tile needs of the source along one axis: `count` places from `first` on, which may lie outside of the map.
// Going back, the source counts in steps of the stride: its first place is `phase` behind the first that is needed.
struct Span {
    int first, count, phase;
};

template <bool FORWARD, int K>
__device__ inline Span span(int target, int count, int stride, int padding) {
    if (FORWARD) return {target * stride - padding, (count - 1) * stride + K, 0};
    int begin = target + padding + 1 - K;
    int first = begin >= 0 ? (begin + stride - 1) / stride : -(-begin / stride);
    return {first, (count + K - 2) / stride + 1, first * stride - begin};
}

struct Tile {
    // Its first place.
    int image, row, column;
    // What it needs.
    Span rows, columns;
};

__device__ inline int tiles_of(const Sizes &sizes) {
    return (sizes.images + sizes.tile_images - 1) / sizes.tile_images * sizes.tiles_down * sizes.tiles_across;
}

template <bool FORWARD, int K>
__device__ inline Tile tile_of(const Sizes &sizes, int index) {
    int line = quotient(index, sizes.per_across), image = quotient(line, sizes.per_down);
    int column = (index - line * sizes.tiles_across) * sizes.tile_columns;
    int row = (line - image * sizes.tiles_down) * sizes.tile_rows;
    return {image * sizes.tile_images, row, column,
            span<FORWARD, K>(row, sizes.tile_rows, sizes.stride, sizes.padding),
            span<FORWARD, K>(column, sizes.tile_columns, sizes.stride, sizes.padding)};
}

// A place of a tile, counted from the tile's first.
struct Place {
    int image, row, column;
};

__device__ inline Place place_of(const Sizes &sizes, int index) {
    int image = quotient(index, sizes.per_plane);
    int in_image = index - image * sizes.tile_rows * sizes.tile_columns;
    int row = quotient(in_image, sizes.per_row);
    return {image, row, in_image - row * sizes.tile_columns};
}

__device__ inline int places_of(const Sizes &sizes) { return sizes.tile_images * sizes.tile_rows * sizes.tile_columns; }

// Where place `index` of a tile is in the target map, in places; -1 if it is not in the map.
__device__ inline int target_place(const Sizes &sizes, const Tile &tile, int index) {
    Place place = place_of(sizes, index);
    int image = tile.image + place.image, row = tile.row + place.row, column = tile.column + place.column;
    if (index >= places_of(sizes) || image >= sizes.images || row >= sizes.target_height ||
        column >= sizes.target_width)
        return -1;
    return (image * sizes.target_height + row) * sizes.target_width + column;
}

// The norm and the ReLU in front of a convolution, of WIDE channels; nothing at all if `mean` is null.
struct Norm {
    const float *mean, *scale, *shift;
};

struct WideNorm {
    float mean[WIDE], scale[WIDE], shift[WIDE];

    __device__ WideNorm(const Norm &norm, int channel) {
        load_wide(norm.mean + channel, mean);
        load_wide(norm.scale + channel, scale);
        load_wide(norm.shift + channel, shift);
    }

    // The norm alone.
    __device__ float operator()(float x, int k) const { return fmaf(scale[k], x - mean[k], shift[k]); }
};

// WIDE numbers as they are stored.
template <typename T>
struct Wide;

template <>
struct Wide<float> {
    float4 words[2];
};

template <>
struct Wide<bf16> {
    uint4 words[1];
};

// Where place number `place` of what a tile needs of the source is in its map, in places; -1 if it is not in the map.
__device__ inline int source_place(const Sizes &sizes, const Tile &tile, int place) {
    int plane = tile.rows.count * tile.columns.count;
    int of_tile = quotient(place, sizes.per_window_plane), in_image = place - of_tile * plane;
    int of_image = quotient(in_image, sizes.per_window_row);
    int image = tile.image + of_tile, row = tile.rows.first + of_image;
    int column = tile.columns.first + in_image - of_image * tile.columns.count;
    // As unsigned numbers, those below 0 are large ones.
    bool inside = of_tile < sizes.tile_images && image < sizes.images && (unsigned)row < (unsigned)sizes.source_height &&
                  (unsigned)column < (unsigned)sizes.source_width;
    return inside ? (image * sizes.source_height + row) * sizes.source_width + column : -1;
}

__device__ inline int source_places_of(const Sizes &sizes, const Tile &tile) {
    return sizes.tile_images * tile.rows.count * tile.columns.count;
}

// Fills `to` [image][row][column][pitch] with `channels` channels, from `channel` on, of the part of the source that
// the tile needs, through norm and ReLU; zeros outside of the map. A thread always takes the same channels, and reads AHEAD
// times before it waits for the first. `meanwhile` is done by every thread while its first reads are under way.
template <int THREADS, int AHEAD, typename T, typename Work>
__device__ inline void load_tile(const T *source, const Norm &norm, const Sizes &sizes, const Tile &tile, int channel,
                                 int channels, int pitch, T *to, const Work &meanwhile) {
    int shift = shift_of(sizes.chunk), vector = threadIdx.x & ((1 << shift) - 1), threads = THREADS >> shift;
    int places = vector * WIDE < channels ? source_places_of(sizes, tile) : 0;
    channel += vector * WIDE;
    const T *from = source + channel;
    const Wide<T> zeros = {};
    Wide<T> found[AHEAD];
    bool inside[AHEAD];
    auto read = [&](int first) {
        UNROLL
        for (int i = 0; i < AHEAD; i++) {
            int place = first + i * threads, at = place < places ? source_place(sizes, tile, place) : -1;
            inside[i] = at >= 0;
            found[i] = inside[i] ? *(const Wide<T> *)(from + at * sizes.source_channels) : zeros;
        }
    };
    int first = threadIdx.x >> shift;
    read(first);
    meanwhile();
    while (first < places) {
        if (norm.mean) {
            // Read again for all that is under way together: kept over all of the tile they would take registers.
            const WideNorm of(norm, channel);
            UNROLL
            for (int i = 0; i < AHEAD; i++) {
                float values[WIDE];
                load_wide((const T *)&found[i], values);
                for (int k = 0; k < WIDE; k++) values[k] = of(values[k], k);
                store_relu((T *)&found[i], values);
                if (!inside[i]) found[i] = zeros;
            }
        }
        UNROLL
        for (int i = 0; i < AHEAD; i++) {
            int place = first + i * threads;
            if (place < places) *(Wide<T> *)(to + place * pitch + vector * WIDE) = found[i];
        }
        first += AHEAD * threads;
        if (first < places) read(first);
    }
}

// The same without a norm, on its way as a part of the next group of copies.
template <int THREADS, typename T>
__device__ inline void begin_tile(const T *source, const Sizes &sizes, const Tile &tile, int channel, int channels,
                                  int pitch, T *to) {
    constexpr int PER_COPY = 16 / sizeof(T);
    int shift = shift_of(sizes.chunk), vector = threadIdx.x & ((1 << shift) - 1), threads = THREADS >> shift;
    if (vector * WIDE >= channels) return;
    const T *from = source + channel + vector * WIDE;
    int places = source_places_of(sizes, tile);
    UNROLL_BY(1)
    for (int place = threadIdx.x >> shift; place < places; place += threads) {
        int at = source_place(sizes, tile, place);
        T *there = to + place * pitch + vector * WIDE;
        if (at < 0)
            *(Wide<T> *)there = Wide<T>{};
        else
            for (int i = 0; i < WIDE; i += PER_COPY) begin_copy(there + i, from + at * sizes.source_channels + i);
    }
}
