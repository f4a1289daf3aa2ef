# The CUDA engine: a static library over the core, with the CUDA runtime inside.
add_library(headscan_cuda STATIC
  cuda/comp/comp.cu
  cuda/search/dictionary.cu
  cuda/search/search_int8.cu
  cuda/support/info.cu
  cuda/svd/svd.cu
)
add_library(headscan::headscan_cuda ALIAS headscan_cuda)
string(REPLACE ";" ", " targets "${CMAKE_CUDA_ARCHITECTURES}")
set_source_files_properties(cuda/support/info.cu PROPERTIES COMPILE_DEFINITIONS "HEADSCAN_CUDA_TARGETS=\"${targets}\"")
set_target_properties(headscan_cuda PROPERTIES
  CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF CUDA_RUNTIME_LIBRARY Static)
target_include_directories(headscan_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(headscan_cuda PUBLIC headscan)
# No contraction, as on the CPU: what decides must have the same bits. Code that may fuse says fma.
# A register spilled to memory is an error where warnings are.
target_compile_options(headscan_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:
  -fmad=false --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra -Xptxas=-warn-spills
  $<$<BOOL:${HEADSCAN_WARNINGS_AS_ERRORS}>:-Werror=all-warnings -Xptxas=-Werror>>)
