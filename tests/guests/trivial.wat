;; Answers at once: what a cast costs when nothing is done in it.
(component
  {{types}}
  {{libc}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32)
      (i32.store (i32.const 1028) (i32.const 16))
      (i32.store (i32.const 1032) (i32.const 4))
      (i32.const 1024))
    (data (i32.const 16) "true"))
  {{only_run}}
)
