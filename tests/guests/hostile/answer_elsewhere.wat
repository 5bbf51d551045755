;; Says that its answer lies outside of its memory.
(component
  {{types}}
  {{libc}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32) (i32.const 0x7ffffff0)))
  {{only_run}}
)
