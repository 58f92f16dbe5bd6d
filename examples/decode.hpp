// From a face box to the crop's matrix, from heatmaps to points, and back to the image: what a device computes beside
// the network, in C++17 and the standard library. It mirrors runtimes/crop.py and runtimes/decode.py; examples/
// check_golden.cpp runs it, and golden.json of a bundle says what must come out.
//
// Everywhere the centre of the first pixel is at 0,0, x runs to the right and y down.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>

namespace slimalign {

struct Point {
  double x, y;
};

struct Landmark {
  Point point;  // in pixels of the crop
  double score;
};

// The image-to-crop matrix is [scale 0 shift_x; 0 scale shift_y]. Mirrors CropRule.matrix: the crop is the square of
// side box_scale * max(width, height) about the box's centre, `size` pixels a side.
struct CropMatrix {
  double scale, shift_x, shift_y;

  CropMatrix(int size, double box_scale, double x0, double y0, double x1, double y1) {
    const double side = box_scale * std::max(x1 - x0, y1 - y0);
    if (!(std::isfinite(side) && side > 0)) throw std::invalid_argument("a box needs x1 > x0 and y1 > y0");
    scale = size / side;
    shift_x = size / 2.0 - 0.5 - scale * (x0 + x1) / 2;
    shift_y = size / 2.0 - 0.5 - scale * (y0 + y1) / 2;
  }

  Point to_crop(Point image) const { return {scale * image.x + shift_x, scale * image.y + shift_y}; }

  // Mirrors transform_points by invert(matrix).
  Point to_image(Point crop) const { return {(crop.x - shift_x) / scale, (crop.y - shift_y) / scale}; }
};

// One landmark's heatmap within the network's answer for one face; `layout` and `stride` are in bundle.json.
struct Heatmap {
  const float* first;
  int height, width;
  std::ptrdiff_t row_step, column_step;

  Heatmap(const float* answer, const std::string& layout, int landmarks, int h, int w, int landmark)
      : first(answer + landmark), height(h), width(w), row_step(std::ptrdiff_t(w) * landmarks), column_step(landmarks) {
    if (layout == "NHWC") return;
    if (layout != "NCHW") throw std::invalid_argument("layout '" + layout + "' is unknown; it is NCHW or NHWC");
    first = answer + std::ptrdiff_t(landmark) * h * w;
    row_step = w;
    column_step = 1;
  }

  double at(int x, int y) const { return first[y * row_step + x * column_step]; }
};

// Mirrors _peaks: of equal values the first from the top left.
inline void find_peak(const Heatmap& map, int& peak_x, int& peak_y) {
  peak_x = peak_y = 0;
  for (int y = 0; y < map.height; ++y)
    for (int x = 0; x < map.width; ++x) {
      if (!std::isfinite(map.at(x, y))) throw std::domain_error("the heatmaps hold NaN or infinite values");
      if (map.at(x, y) > map.at(peak_x, peak_y)) peak_x = x, peak_y = y;
    }
}

// Mirrors _local_mean over the part of a window that lies in the heatmap: the mean place by `weight`, the peak where
// all weights are zero; `total` is the weight in all.
template <typename Weight>
Point mean_place(const Heatmap& map, int peak_x, int peak_y, int side, Weight weight, double& total) {
  double sum_x = 0, sum_y = 0;
  total = 0;
  const int reach = side / 2;
  for (int y = std::max(peak_y - reach, 0); y <= std::min(peak_y + reach, map.height - 1); ++y)
    for (int x = std::max(peak_x - reach, 0); x <= std::min(peak_x + reach, map.width - 1); ++x) {
      const double w = weight(map.at(x, y));
      sum_x += w * (x - peak_x);
      sum_y += w * (y - peak_y);
      total += w;
    }
  const double safe = total == 0 ? 1 : total;
  return {peak_x + sum_x / safe, peak_y + sum_y / safe};
}

// Mirrors _quarter_moved along one axis; a peak on the border has one neighbour only and stays.
inline double quarter(double before, double after) { return after > before ? 0.25 : after < before ? -0.25 : 0; }

// Mirrors decode. `decoder` and `stride` are in bundle.json.
inline Landmark decode(const Heatmap& map, double stride, const std::string& decoder) {
  int peak_x, peak_y;
  find_peak(map, peak_x, peak_y);
  double score = map.at(peak_x, peak_y), total;
  Point place{double(peak_x), double(peak_y)};
  if (decoder == "argmax-quarter") {
    if (peak_x > 0 && peak_x < map.width - 1)
      place.x += quarter(map.at(peak_x - 1, peak_y), map.at(peak_x + 1, peak_y));
    if (peak_y > 0 && peak_y < map.height - 1)
      place.y += quarter(map.at(peak_x, peak_y - 1), map.at(peak_x, peak_y + 1));
  } else if (decoder == "local-mean") {
    place = mean_place(map, peak_x, peak_y, 5, [](double value) { return std::max(value, 0.0); }, total);
  } else if (decoder == "local-softmax") {
    // The largest logit is subtracted from all, so that no exponential overflows.
    const auto power = [largest = score](double value) { return std::exp(value - largest); };
    place = mean_place(map, peak_x, peak_y, 9, power, total);
    double whole = 0;
    for (int y = 0; y < map.height; ++y)
      for (int x = 0; x < map.width; ++x) whole += power(map.at(x, y));
    score = total / whole;
  } else {
    throw std::invalid_argument("decoder '" + decoder + "' is unknown");
  }
  // A heatmap pixel covers stride x stride pixels of the crop.
  return {{(place.x + 0.5) * stride - 0.5, (place.y + 0.5) * stride - 0.5}, score};
}

}  // namespace slimalign
