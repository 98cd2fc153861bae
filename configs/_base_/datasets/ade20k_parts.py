# The parts of the full ADE20K, by which a hierarchy is scored; in data/, or where HYPER_MM_DATA says
parts = dict(
    type='hyper_mm.ADE20KPartsDataset',
    data_root='{{$HYPER_MM_DATA:data}}/ade20k_full_sample/ADE20K_2021_17_01',
)
load_parts = [dict(type='hyper_mm.LoadADE20KParts'), dict(type='PackSegInputs')]
purity = dict(type='hyper_mm.HierarchyPurity', taxonomy='ade20k_parts')
