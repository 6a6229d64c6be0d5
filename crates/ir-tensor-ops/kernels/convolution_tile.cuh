// Which part of a map a block of a convolution works on, and how it comes into shared memory.
#pragma once

// A convolution reads a source map and writes a target map. Going back, the source is the gradient behind it. A block
// takes a tile of the target: some rows and columns of some images.
struct Sizes {
    int images, source_height, source_width, source_channels, target_height, target_width, target_channels;
    int stride, padding, tile_images, tile_rows, tile_columns;
    // Channels of the source that are in shared memory at a time: 16, 32 or 64.
    int chunk;
};

#define SIZES                                                                                                  \
    int images, int source_height, int source_width, int source_channels, int target_height, int target_width, \
        int target_channels, int stride, int padding, int tile_images, int tile_rows, int tile_columns, int chunk
#define SIZES_GIVEN                                                                                               \
    Sizes {                                                                                                       \
        images, source_height, source_width, source_channels, target_height, target_width, target_channels,       \
            stride, padding, tile_images, tile_rows, tile_columns, chunk                                          \
    }

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

__device__ inline int pieces(int whole, int piece) { return (whole + piece - 1) / piece; }

__device__ inline int tiles_of(const Sizes &sizes) {
    return pieces(sizes.images, sizes.tile_images) * pieces(sizes.target_height, sizes.tile_rows) *
           pieces(sizes.target_width, sizes.tile_columns);
}

template <bool FORWARD, int K>
__device__ inline Tile tile_of(const Sizes &sizes, int index) {
    int across = pieces(sizes.target_width, sizes.tile_columns), down = pieces(sizes.target_height, sizes.tile_rows);
    int column = index % across * sizes.tile_columns, row = index / across % down * sizes.tile_rows;
    return {index / across / down * sizes.tile_images, row, column,
            span<FORWARD, K>(row, sizes.tile_rows, sizes.stride, sizes.padding),
            span<FORWARD, K>(column, sizes.tile_columns, sizes.stride, sizes.padding)};
}

// A place of a tile, counted from the tile's first.
struct Place {
    int image, row, column;
};

__device__ inline Place place_of(const Sizes &sizes, int index) {
    int plane = sizes.tile_rows * sizes.tile_columns;
    return {index / plane, index % plane / sizes.tile_columns, index % sizes.tile_columns};
}

__device__ inline int places_of(const Sizes &sizes) { return sizes.tile_images * sizes.tile_rows * sizes.tile_columns; }

// Where place `index` of a tile is in the target map, in places; -1 if it is not in the map.
__device__ inline int64_t target_place(const Sizes &sizes, const Tile &tile, int index) {
    Place place = place_of(sizes, index);
    int image = tile.image + place.image, row = tile.row + place.row, column = tile.column + place.column;
    if (index >= places_of(sizes) || image >= sizes.images || row >= sizes.target_height ||
        column >= sizes.target_width)
        return -1;
    return ((int64_t)image * sizes.target_height + row) * sizes.target_width + column;
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
struct Wide {
    uint4 words[sizeof(T) / 2];
};

// Fills `to` [image][row][column][pitch] with `channels` channels, from `channel` on, of the part of the source that
// the tile needs, through norm and ReLU; zeros outside of the map. A thread always takes the same channels.
template <int THREADS, typename T>
__device__ inline void load_tile(const T *source, const Norm &norm, const Sizes &sizes, const Tile &tile, int channel,
                                 int channels, int pitch, T *to) {
    // Reads that are under way at a time.
    constexpr int AHEAD = 64 / sizeof(Wide<T>);
    int vectors = sizes.chunk / WIDE, vector = threadIdx.x % vectors, threads = THREADS / vectors;
    if (vector * WIDE >= channels) return;
    channel += vector * WIDE;
    int plane = tile.rows.count * tile.columns.count, places = sizes.tile_images * plane;
    const T *from = source + channel;
    const Wide<T> zeros = {};
    for (int first = threadIdx.x / vectors; first < places; first += AHEAD * threads) {
        Wide<T> found[AHEAD];
        bool inside[AHEAD];
        UNROLL
        for (int i = 0; i < AHEAD; i++) {
            int place = first + i * threads;
            int image = tile.image + place / plane;
            int row = tile.rows.first + place % plane / tile.columns.count;
            int column = tile.columns.first + place % plane % tile.columns.count;
            inside[i] = place < places && image < sizes.images && row >= 0 && row < sizes.source_height &&
                        column >= 0 && column < sizes.source_width;
            int64_t at = ((int64_t)image * sizes.source_height + row) * sizes.source_width + column;
            found[i] = inside[i] ? *(const Wide<T> *)(from + at * sizes.source_channels) : zeros;
        }
        UNROLL
        for (int i = 0; i < AHEAD; i++) {
            int place = first + i * threads;
            if (place >= places) break;
            T *into = to + place * pitch + vector * WIDE;
            if (norm.mean && inside[i]) {
                // Read again each time: that costs less than the registers that they would take.
                const WideNorm of(norm, channel);
                float values[WIDE];
                load_wide((const T *)&found[i], values);
                for (int k = 0; k < WIDE; k++) values[k] = fmaxf(of(values[k], k), 0);
                store_wide(into, values);
            } else {
                *(Wide<T> *)into = found[i];
            }
        }
    }
}
