// Decodes the heatmaps of one face, to hold beside golden.json of the bundle that they come from.
//
//   g++ -std=c++17 -O2 -o check_golden check_golden.cpp
//   check_golden heatmaps.raw NCHW 68 32 32 4 local-softmax 128 1.25 63.9 78.1 288.6 336.7
//
// heatmaps.raw is what the network gave for the golden face's crop: float32 as the machine stores them. After it come
// layout, landmarks, height, width, stride and decoder, then input_size, box_scale and the box x0 y0 x1 y1, which may
// be left out. The first line of the answer is then `image_to_crop` and its 2x3 numbers; after it comes a line a
// landmark: x and y in the crop (crop_points), the score (scores) and, with a box, x and y in the image (points).

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "decode.hpp"

static double number(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0') throw std::invalid_argument("'" + text + "' is not a number");
  return value;
}

static int count(const std::string& text) {
  const double value = number(text);
  if (!(value >= 1 && value <= 1e6)) throw std::invalid_argument("'" + text + "': a whole number from 1 is needed");
  return static_cast<int>(value);
}

static int run(const std::vector<std::string>& given) {
  if (given.size() != 7 && given.size() != 13) {
    std::fprintf(stderr, "give FILE LAYOUT K H W STRIDE DECODER [INPUT_SIZE BOX_SCALE X0 Y0 X1 Y1]\n");
    return 2;
  }
  const int landmarks = count(given[2]), height = count(given[3]), width = count(given[4]);
  std::vector<float> answer(std::size_t(landmarks) * height * width);
  std::ifstream file(given[0], std::ios::binary);
  file.read(reinterpret_cast<char*>(answer.data()), std::streamsize(answer.size() * sizeof(float)));
  if (!file || file.peek() != std::ifstream::traits_type::eof()) {
    std::fprintf(stderr, "%s: does not hold %d x %d x %d float32 numbers\n", given[0].c_str(), landmarks, height, width);
    return 2;
  }
  std::optional<slimalign::CropMatrix> matrix;
  if (given.size() == 13) {
    matrix.emplace(count(given[7]), number(given[8]), number(given[9]), number(given[10]),
                   number(given[11]), number(given[12]));
    std::printf("image_to_crop %.17g 0 %.17g 0 %.17g %.17g\n", matrix->scale, matrix->shift_x, matrix->scale,
                matrix->shift_y);
  }
  for (int landmark = 0; landmark < landmarks; ++landmark) {
    const slimalign::Heatmap map(answer.data(), given[1], landmarks, height, width, landmark);
    const auto [crop, score] = slimalign::decode(map, number(given[5]), given[6]);
    std::printf("%.9g %.9g %.9g", crop.x, crop.y, score);
    if (matrix) {
      const slimalign::Point image = matrix->to_image(crop);
      std::printf(" %.9g %.9g", image.x, image.y);
    }
    std::printf("\n");
  }
  return 0;
}

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
