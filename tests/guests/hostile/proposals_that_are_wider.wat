;; Proposes children that are wider than itself.
(component
  {{types}}
  {{gates}}
  {{libc}}
  {{call}}
  (core instance $gate (export "call" (func $call)))
  {{call_each}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "caller" "each" (func $each (param i32 i32 i32 i32) (result i32)))
    ;; Returns how many of them were answered: one digit.
    (func (export "run") (param i32 i32) (result i32)
      (i32.store8 (i32.const 1536)
        (i32.add (i32.const 48) (call $each (i32.const 16) (i32.const 11) (i32.const 2048) (i32.const 2372))))
      (i32.store8 (i32.const 1024) (i32.const 0))
      (i32.store (i32.const 1028) (i32.const 1536))
      (i32.store (i32.const 1032) (i32.const 1))
      (i32.const 1024))
    (data (i32.const 16) "call_entity")
    (data (i32.const 2048) "{\22intent\22: \22x\22, \22gates\22: [\22format_disk\22]}\0a{\22intent\22: \22x\22, \22gates\22: [\22http_fetsh\22, \22done\22]}\0a{\22intent\22: \22x\22, \22medium\22: \22python\22}\0a{\22intent\22: \22x\22, \22llm\22: \22gpt\22}\0a{\22intent\22: \22x\22, \22node\22: \22agents@elsewhere\22}\0a{\22intent\22: \22\22}\0a{\22gates\22: [\22done\22]}\0a{\22intent\22: \22x\22, \22wards\22: {\22max_turn\22: 5}}\0a{\22intent\22: \22x\22, \22secret\22: true}\0a[]\0a7\0a\22x\22\0anull\0a"))
  {{run_each}}
)
