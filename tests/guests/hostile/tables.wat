;; Makes a table larger and larger.
(component
  {{types}}
  {{libc}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (table $table 1 funcref)
    (func (export "run") (param i32 i32) (result i32)
      (block $full
        (loop $more
          (br_if $full (i32.eq (table.grow $table (ref.null func) (i32.const 10000)) (i32.const -1)))
          (br $more)))
      ;; {"ok": its size is bounded}: a JSON true.
      (i32.store8 (i32.const 1024) (i32.const 0))
      (i32.store (i32.const 1028) (i32.const 16))
      (i32.store (i32.const 1032) (i32.const 4))
      (i32.const 1024))
    (data (i32.const 16) "true"))
  {{only_run}}
)
